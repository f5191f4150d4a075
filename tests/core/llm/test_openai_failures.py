"""What is asked of a server again, how soon, and what is said when it stays away."""

from __future__ import annotations

import random
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from recloom.errors import LLMRequestError, RecloomError
from recloom.llm.openai.chat import OpenAIChat
from recloom.llm.openai.server import backoff, retry_after

ASKED = [{"role": "user", "content": "Which film?"}]
LATER = {"error": {"message": "slow down"}}


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def model(stub):
    return OpenAIChat("small", base_url=stub.url, retries=3, timeout=30)


@pytest.fixture
def hasty(stub):
    """Waits for less time than the stub is silent."""
    return OpenAIChat("small", base_url=stub.url, retries=3, timeout=0.5)


def failure(model, kind):
    with pytest.raises(kind) as caught:
        model.generate(ASKED)
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [(429, LATER), (500, LATER), (502, ""), (503, "busy"), (504, ""), (529, LATER), "DROP"],
    ids=str,
)
def test_a_passing_fault_is_asked_again(stub, model, fault):
    stub.script = [getattr(stub, fault) if isinstance(fault, str) else fault] * 2
    assert model.generate(ASKED).texts == ["fine"]
    assert len(stub.bodies) == 3
    assert stub.bodies[0] == stub.bodies[1] == stub.bodies[2]


def test_half_an_answer_is_asked_again(stub, model):
    stub.script = [(200, '{"choices": [', {"Content-Length": "500", "Connection": "close"})]
    assert model.generate(ASKED).texts == ["fine"]
    assert len(stub.bodies) == 2


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ((429, LATER), RecloomError, "429: slow down. Check the address and the limits of the account"),
        ((503, "busy"), RecloomError, "503: busy. Check the address"),
        ((502, ""), RecloomError, "502: no message. Check the address"),
        ((500, LATER), LLMRequestError, "500: slow down"),
        ((504, ""), LLMRequestError, "504: no message"),
        ("DROP", LLMRequestError, "the connection was lost"),
    ],
    ids=str,
)
def test_a_lasting_fault_ends_after_the_retries(stub, model, fault, kind, words):
    stub.usual = lambda body: getattr(stub, fault) if isinstance(fault, str) else fault
    said = failure(model, kind)
    assert "did not answer in 4 attempts: " in said
    assert words in said
    assert len(stub.bodies) == 4


def test_silence_is_asked_again_until_the_retries_end(stub, hasty):
    stub.script = [stub.HANG, stub.HANG]
    assert hasty.generate(ASKED).texts == ["fine"]
    assert len(stub.bodies) >= 3  # a busy machine may be silent once more
    del stub.bodies[:]
    stub.usual = lambda body: stub.HANG
    assert "did not answer in 4 attempts: silence for 0.5 s" in failure(hasty, LLMRequestError)
    assert len(stub.bodies) == 4


def test_without_retries_one_attempt_is_made(stub):
    stub.script = [(503, "busy")]
    failure(OpenAIChat("small", base_url=stub.url, retries=0), RecloomError)
    assert len(stub.bodies) == 1


def closed_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_refused_connection_is_tried_again(stub, model, monkeypatch):
    import httpx

    real, attempts = httpx.HTTPTransport.handle_request, []

    def refused(self, request):
        attempts.append(request.url)
        if len(attempts) < 3:
            raise httpx.ConnectError("[Errno 111] Connection refused")
        return real(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refused)
    assert model.generate(ASKED).texts == ["fine"]
    assert len(attempts) == 3


def test_a_server_that_is_not_there_stops_everything():
    port = closed_port()
    model = OpenAIChat("small", base_url=f"http://127.0.0.1:{port}/v1", retries=2)
    said = failure(model, RecloomError)
    assert f"127.0.0.1:{port} did not answer in 3 attempts: no connection (" in said
    assert "refused" in said
    assert "Check the address" in said


def test_a_certificate_that_is_not_trusted_is_not_tried_again(stub, model, monkeypatch):
    import httpx

    attempts = []

    def untrusted(self, request):
        attempts.append(request)
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", untrusted)
    assert "has no certificate that is trusted here" in failure(model, RecloomError)
    assert len(attempts) == 1


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 422, 431, 451])
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no such thing"}}, {"error": "no such thing"}, {"message": "no such thing"},
        {"detail": [{"msg": "no such thing"}]}, "no such thing",
    ],
    ids=["openai", "ollama", "flat", "fastapi", "text"],
)  # fmt: skip
def test_a_refused_question_is_not_asked_again_and_says_why(stub, model, status, body):
    stub.script = [(status, body)]
    said = failure(model, LLMRequestError)
    assert f"refused the request ({status}): " in said
    assert "no such thing" in said
    assert len(stub.bodies) == 1


def test_what_a_server_says_is_short_and_obeyed_by_no_terminal(stub, model):
    stub.script = [(400, {"error": {"message": "\x1b[2Jgone\n" + "z" * 5000}})]
    said = failure(model, LLMRequestError)
    assert "␛[2Jgone zzz" in said
    assert len(said) < 400


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {"error": "who?"}), "refused a request without a key (401). Check the environment variable OPENAI"),
        ((403, {"error": "not here"}), "refused a request without a key (403: not here). Check"),
        ((402, {"error": "pay first"}), "has no credit left (402): pay first"),
        (
            (429, {"error": {"message": "over quota", "code": "insufficient_quota"}}),
            "has no credit left (429): over quota",
        ),
        ((307, "", {"Location": "http://127.0.0.1:9/v1"}), "answered 307 instead of a response; check base_url http://127"),
    ],
)  # fmt: skip
def test_what_no_question_would_survive_stops_everything_at_once(stub, model, answer, words):
    stub.script = [answer]
    assert words in failure(model, RecloomError)
    assert len(stub.bodies) == 1


def test_retry_after_in_seconds_is_honoured(stub, model):
    stub.script = [(429, LATER, {"Retry-After": "0.6"}), (503, LATER, {"Retry-After": "0"})]
    assert model.generate(ASKED).texts == ["fine"]
    first, second = (later - earlier for earlier, later in pairwise(stub.times))
    assert first >= 0.6
    assert second < 0.6


def test_retry_after_as_a_date_is_honoured(stub, model):
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    stub.script = [(429, LATER, {"Retry-After": format_datetime(date, usegmt=True)})]
    assert model.generate(ASKED).texts == ["fine"]
    assert timedelta() <= datetime.now(UTC) - date < timedelta(seconds=3)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3), ("0.25", 0.25), ("-4", 0), ("", 0), ("soon", 0), ("nan", 0), ("9999", 120), ("inf", 120),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2915 07:28:00 GMT", 120),
        ("Wed, 21 Oct 2915 07:28:00", 120), ("Wed, 99 Oct 2915 07:28:00 GMT", 0),
    ],
)  # fmt: skip
def test_a_pause_is_bounded(header, seconds):
    assert retry_after(header) == seconds


def test_waits_double_with_chance_up_to_a_limit():
    for attempt, most in [(1, 0.05), (2, 0.1), (5, 0.8), (20, 20.0), (2000, 20.0)]:
        drawn = [backoff(attempt) for _ in range(50)]
        assert most / 2 <= min(drawn) < max(drawn) <= most


def test_waiting_leaves_a_seeded_generator_as_it_was(stub, model):
    random.seed(7)
    wanted = random.random()
    random.seed(7)
    stub.script = [(500, ""), (500, "")]
    model.generate(ASKED)
    assert random.random() == wanted


def test_a_long_wait_is_announced_once(stub, model, caplog, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    stub.script = [(429, LATER, {"Retry-After": "30"}), (429, LATER)]
    caplog.set_level("WARNING", "recloom")
    model.generate(ASKED)
    (message,) = caplog.messages
    assert "429: slow down; retry 1 of 3 in 30.0" in message
