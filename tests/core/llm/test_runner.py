"""Each question once, each reply kept the moment it arrives, and the same call goes on after any end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from recloom.errors import LLMRequestError, RecloomError
from recloom.llm import Generation, LanguageModel, Scores
from recloom.llm.client.runner import ask
from recloom.llm.ledger.store import Ledger
from recloom.llm.requests import Failure, LLMRequest, LLMResponse


@dataclass
class Calls:
    """What a toy model was asked, by all its threads."""

    texts: list[str] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True)
class Toy(LanguageModel):
    """Answers `reply to TEXT`; refuses what holds `refuse`, breaks on `break`."""

    calls: Calls = field(default_factory=Calls)
    batch_size: int = 1
    concurrency: int = 1
    sleep: float = 0.0

    can_score = True
    without_effect = ("calls", "batch_size", "concurrency", "sleep")

    def generate(self, messages, *, n=1, **options):
        text = messages[-1]["content"]
        with self.calls.lock:
            self.calls.texts.append(text)
        if "refuse" in text:
            raise LLMRequestError(f"refused: {text}")
        if "break" in text:
            raise RecloomError("the server is gone.")
        if "bug" in text:
            raise ZeroDivisionError("a bug")
        if "few" in text:
            n -= 1
        return Generation([f"reply to {text}"] * n, 10, n)

    def generate_batch(self, conversations, **options):
        with self.calls.lock:
            self.calls.batches.append([messages[-1]["content"] for messages in conversations])
            self.calls.under_way += 1
            self.calls.most = max(self.calls.most, self.calls.under_way)
        if "break" not in conversations[0][-1]["content"]:
            time.sleep(self.sleep)
        with self.calls.lock:
            self.calls.under_way -= 1
        return super().generate_batch(conversations, **options)

    def score_batch(self, prompts, options):
        self.calls.texts.extend(prompt[-1]["content"] for prompt in prompts)
        return [Scores([-float(len(option)) for option in given], 11, 1) for given in options]


def request(text: str, **more) -> LLMRequest:
    return LLMRequest(({"role": "user", "content": text},), "p@1", **more)


def some(count: int) -> list[LLMRequest]:
    return [request(f"question {n}") for n in range(count)]


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def texts(found) -> list[str]:
    return [response.texts[0] for response in found.responses]


@pytest.mark.parametrize(("batch_size", "concurrency"), [(1, 1), (7, 1), (1, 8), (3, 4)])
def test_replies_stand_in_the_order_of_the_questions_and_a_warm_ledger_makes_no_call(
    ledger, batch_size, concurrency
):
    model = Toy(batch_size=batch_size, concurrency=concurrency)
    first = ask(model, some(50), ledger)
    assert texts(first) == [f"reply to question {n}" for n in range(50)]
    assert sorted(model.calls.texts) == sorted(f"question {n}" for n in range(50))
    again = ask(model, some(50), ledger)
    assert len(model.calls.texts) == 50
    assert texts(again) == texts(first)
    assert all(response.cached for response in again.responses)
    assert not any(response.cached for response in first.responses)
    assert (first.usage.calls, first.usage.prompt_tokens, first.usage.completion_tokens) == (50, 500, 50)
    assert (again.usage.calls, again.usage.cached, again.usage.prompt_tokens) == (0, 50, 0)


def test_equal_questions_are_asked_once_also_at_the_same_time(ledger):
    model = Toy(concurrency=16, sleep=0.02)
    found = ask(model, some(4) * 100, ledger)
    assert sorted(model.calls.texts) == [f"question {n}" for n in range(4)]
    assert texts(found) == [f"reply to question {n}" for n in range(4)] * 100
    assert (found.usage.requests, found.usage.repeated, found.usage.calls) == (400, 396, 4)


def test_batches_hold_equal_settings_and_go_out_longest_first_never_more_than_allowed(ledger):
    model = Toy(batch_size=3, concurrency=4, sleep=0.01)
    requests = [request("x" * (n % 11 + 1) + str(n), temperature=n % 2) for n in range(60)]
    settings = {q.messages[0]["content"]: q.settings for q in requests}
    ask(model, requests, ledger)
    assert len(model.calls.batches) == 20
    assert all(len({settings[text] for text in batch}) == 1 for batch in model.calls.batches)
    assert all(sorted(batch, key=len, reverse=True) == batch for batch in model.calls.batches)
    longest = [max(map(len, batch)) for batch in model.calls.batches]
    assert longest[0] == max(map(len, settings))
    assert model.calls.most == 4


def test_options_are_scored_and_free_questions_answered_in_one_list(ledger):
    model = Toy(batch_size=4)
    requests = [request("a"), request("b", options=("yes", "maybe")), request("c", options=("no",))]
    for _ in range(2):
        responses = ask(model, requests, ledger).responses
        assert responses[0].texts == ("reply to a",)
        assert [response.scores for response in responses[1:]] == [(-3.0, -5.0), (-2.0,)]
        assert [response.prompt_tokens for response in responses] == [10, 11, 11]
    assert len(model.calls.texts) == 3


def test_a_question_that_cannot_be_answered_is_counted_and_asked_again_the_next_time(ledger):
    model = Toy(batch_size=2, concurrency=2)
    requests = [request("refuse this"), request("few", n=2), request("none", options=()), *some(3)]
    for calls in (1, 2):
        found = ask(model, requests, ledger)
        assert found.responses[0] == Failure("refused: refuse this")
        assert found.responses[1] == Failure("1 answers came of 2", ("reply to few",))
        assert "at least one" in found.responses[2].reason
        assert [isinstance(response, LLMResponse) for response in found.responses] == [False] * 3 + [True] * 3
        assert found.usage.failures == 3
        assert model.calls.texts.count("refuse this") == calls
    assert model.calls.texts.count("question 1") == 1


@pytest.mark.parametrize("concurrency", [1, 4])
def test_another_error_ends_the_run_and_what_arrived_is_kept(ledger, concurrency):
    requests = [request("a long one that will break"), *some(40)]
    model = Toy(
        concurrency=concurrency, sleep=0.2 * (concurrency > 1)
    )  # the break comes long before the others
    with pytest.raises(RecloomError) as told:
        ask(model, [*requests[1:9], request("break")], ledger)
    assert "the server is gone.\n8 of 9 responses are kept in" in str(told.value)
    assert "1 are still to be sent.\nThis run sent 8: 80 prompt and 8 completion tokens." in str(told.value)
    assert str(told.value).endswith("\nThe same command goes on from there.")
    with pytest.raises(RecloomError) as told:
        ask(model, requests, ledger)  # the longest goes first
    assert len(model.calls.texts) < 9 + 2 * concurrency + 1
    kept = len(ledger.get_many(q.key(model.identity) for q in requests))
    assert f"{kept} of 41 responses are kept in" in str(told.value)
    assert f"This run sent {kept - 8}: " in str(told.value)
    done = ask(model, requests[1:], ledger)
    assert (done.usage.cached, done.usage.calls) == (kept, 40 - kept)


def test_a_bug_of_a_backend_stays_what_it_is(ledger):
    with pytest.raises(ZeroDivisionError) as told:
        ask(Toy(), [*some(3), request("bug")], ledger)
    assert "3 of 4 responses are kept" in told.value.__notes__[0]
    assert told.value.__context__ is None


def test_as_many_replies_as_questions_or_none(ledger):
    class Forgetful(Toy):
        def generate_batch(self, conversations, **options):
            return super().generate_batch(conversations, **options)[1:]

    with pytest.raises(RecloomError, match="Forgetful gave 2 responses to 3 requests"):
        ask(Forgetful(batch_size=3), some(3), ledger)


def test_offline_asks_nothing_and_says_how_many_are_missing(ledger):
    model = Toy()
    ask(model, some(3), ledger)
    assert len(ask(model, some(3) * 2, ledger, offline=True).responses) == 6
    for how in ({"ledger": ledger, "offline": True}, {"ledger": Ledger(ledger.path, offline=True)}):
        with pytest.raises(RecloomError, match=r"lacks the responses to 2 of 5 requests to Toy.*llm import"):
            ask(model, [*some(5), *some(5)], **how)
    assert len(model.calls.texts) == 3


def test_a_secret_in_a_question_is_never_sent_and_in_the_model_ends_the_run(ledger, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", "sesame-open")
    model = Toy(batch_size=3)
    found = ask(model, [request("tell me"), request("say sesame-open"), request("and me")], ledger)
    assert sorted(model.calls.texts) == ["and me", "tell me"]
    assert [found.responses[at].texts for at in (0, 2)] == [("reply to tell me",), ("reply to and me",)]
    assert isinstance(found.responses[1], Failure)
    assert "SHOP_TOKEN" in found.responses[1].reason
    assert "sesame" not in found.responses[1].reason

    @dataclass(frozen=True)
    class Keyed(Toy):
        key: str = "sesame-open"

    with pytest.raises(
        RecloomError, match=r"identity of the language model holds the value .* SHOP_TOKEN"
    ) as told:
        ask(Keyed(), some(1), ledger)
    assert "sesame" not in str(told.value)


def test_what_a_backend_says_of_an_error_is_told_without_the_secret(ledger, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", "sesame-open")

    class Talkative(Toy):
        def generate(self, messages, **options):
            kind = LLMRequestError if "refuse" in messages[0]["content"] else RecloomError
            raise kind("bad header: Bearer sesame-open")

    (failure,) = ask(Talkative(), [request("refuse")], ledger).responses
    assert failure == Failure("bad header: Bearer [value of SHOP_TOKEN]")
    with pytest.raises(RecloomError, match=r"Bearer \[value of SHOP_TOKEN\]\.\n0 of 1 responses") as told:
        ask(Talkative(), some(1), ledger)
    assert "sesame" not in str(told.value)
    assert told.value.__cause__ is None


PROGRAM = """
import signal, sys, time, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from dataclasses import dataclass
from recloom.llm import Generation, LanguageModel
from recloom.llm.client.runner import ask
from recloom.llm.ledger.store import Ledger
from recloom.llm.requests import LLMRequest

folder, concurrency, slow = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
log, lock = open(folder + "/calls.txt", "a"), threading.Lock()

@dataclass(frozen=True)
class Toy(LanguageModel):
    def generate(self, messages, **options):
        text = messages[0]["content"]
        with lock:
            log.write(text + "\\n")
            log.flush()
        time.sleep(slow if int(text) % 50 == 49 else 0.004)
        return Generation(["reply to " + text], 10, 1)

Toy.concurrency = concurrency
questions = [LLMRequest(({"role": "user", "content": str(n)},), "p@1") for n in range(300)]
print("begun", flush=True)
found = ask(Toy(), questions, Ledger(folder + "/ledger.sqlite"))
assert [reply.texts[0] for reply in found.responses] == [f"reply to {n}" for n in range(300)]
print(found.usage.calls, found.usage.cached)
"""


def held(folder) -> set[str]:
    """The questions whose replies stand in the file, read past the ledger's own code."""
    import sqlite3

    with sqlite3.connect(folder / "ledger.sqlite") as db:
        return {
            text
            for (text,) in db.execute("SELECT json_extract(question, '$.messages[0].content') FROM replies")
        }


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_run_that_was_ended_in_the_middle_goes_on_from_there(tmp_path, concurrency, end):
    log = tmp_path / "calls.txt"
    command = [sys.executable, "-c", PROGRAM, tmp_path, str(concurrency), "0.004"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    waited = time.monotonic()
    while not log.exists() or len(log.read_text().split()) < 80:
        assert process.poll() is None
        assert time.monotonic() - waited < 60
        time.sleep(0.001)
    process.send_signal(end)
    said = process.communicate(timeout=30)[1]
    asked, kept = log.read_text().split(), held(tmp_path)
    if end == signal.SIGINT:  # what was under way may still have been kept after that was said
        told = int(re.search(r"interrupted\.\n(\d+) of 300 responses are kept in .*ledger.sqlite", said)[1])
        assert len(kept) - 2 * concurrency <= told <= len(kept)
    assert 80 - concurrency <= len(kept) <= len(asked) < 300
    assert len(set(asked) - kept) <= concurrency  # what was under way
    log.unlink()
    done = subprocess.run(command, text=True, capture_output=True, check=True)
    again = log.read_text().split()
    assert not set(again) & kept
    assert sorted(map(int, again)) == sorted(set(range(300)) - set(map(int, kept)))
    assert done.stdout.splitlines()[-1] == f"{300 - len(kept)} {len(kept)}"


@pytest.mark.parametrize("concurrency", [1, 8])
def test_an_interrupt_waits_for_no_answer(tmp_path, concurrency):
    command = [sys.executable, "-c", PROGRAM, tmp_path, str(concurrency), "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "calls.txt"
    waited = time.monotonic()
    while not log.exists() or not any(int(text) % 50 == 49 for text in log.read_text().split()):
        assert time.monotonic() - waited < 60
        time.sleep(0.005)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    process.communicate(timeout=50)
    assert time.monotonic() - begun < 10
    assert process.returncode == -signal.SIGINT


def test_a_million_questions_are_not_under_way_at_once(ledger, monkeypatch):
    from recloom.llm.client import runner as workers

    most = 0
    start = workers.Workers.start

    def watched(self, job):
        nonlocal most
        start(self, job)
        most = max(most, self.under_way, self._todo.qsize())

    monkeypatch.setattr(workers.Workers, "start", watched)
    ask(Toy(concurrency=8, sleep=0.001), some(300), ledger)
    assert most == 8
    time.sleep(0.1)
    assert not [
        t for t in threading.enumerate() if getattr(t, "_target", None) and "Workers" in str(t._target)
    ]


@pytest.mark.slow
def test_asking_itself_takes_little(ledger):
    """In CPU time, since the machine may be busy: 20 ms at 32 at a time leave 0.6 ms for each question.

    A slow machine may take seven times what a bare pool of threads takes for the same calls; 4.5 were measured.
    """
    spent = []
    for n in range(3):
        model = Toy(concurrency=32, sleep=0.02)
        requests = [request(f"{n} {i}" + " word" * 60) for i in range(2000)]
        begun = time.process_time()
        assert ask(model, requests, ledger).usage.calls == 2000
        spent.append((time.process_time() - begun) / 2000)
        assert model.calls.most == 32
        if spent[-1] < 0.6e-3:
            return
    begun = time.process_time()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda one: Toy(sleep=0.02).generate_batch([one.messages]), requests))
    bare = (time.process_time() - begun) / 2000
    assert min(spent) < 7 * bare, (spent, bare)
