"""Where the key goes: into the header of a request to the right server, and nowhere else."""

from __future__ import annotations

import json
import logging
import pickle
import traceback

import pytest
from recloom.errors import LLMRequestError, RecloomError
from recloom.llm.openai.chat import OpenAIChat
from recloom.llm.openai.embeddings import OpenAIEmbeddings
from recloom.llm.openai.redaction import without_key
from recloom.llm.openai.server import error_message

KEY = "sk-Zq81xRvW47LmTn03PyKb"
ASKED = [{"role": "user", "content": "Which film?"}]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def parts(size=8):
    return [KEY[at : at + size] for at in range(len(KEY) - size + 1)]


def holds_key(text):
    return any(part.lower() in text.lower() for part in parts())


def error_of(call):
    with pytest.raises(RecloomError) as caught:
        call()
    return caught.value


def test_the_key_is_sent_as_a_bearer_token(stub):
    OpenAIChat("small", base_url=stub.url).generate(ASKED)
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(stub.bodies)


def test_another_variable_can_hold_the_key(stub, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "other\n")  # as `export OTHER_KEY="$(cat file)"` may leave it
    OpenAIChat("small", base_url=stub.url, key_env="OTHER_KEY").generate(ASKED)
    OpenAIChat("small", base_url=stub.url, key_env=None).generate(ASKED)
    assert stub.headers[0]["authorization"] == "Bearer other"
    assert "authorization" not in stub.headers[1]


ECHO = f"bad request: Authorization: Bearer {KEY}"
FAULTS = [
    (400, {"error": {"message": ECHO}}),
    (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
    (402, {"error": ECHO}),
    (403, {"error": ECHO}),
    (404, ECHO),
    (422, {"detail": [{"headers": {"authorization": f"Bearer {KEY.lower()}"}}]}),
    (429, {"error": {"message": ECHO}}),
    (429, {"error": {"message": ECHO, "code": "insufficient_quota"}}),
    (500, "z" * 290 + KEY),  # the cut goes through the key
    (503, f"{KEY[:12]}**** {KEY[9:]}"),
    (307, ECHO, {"Location": f"http://127.0.0.1:9/{KEY}"}),
    (400, "", {"reason": ECHO, "X-Echo": ECHO}),
    (200, ECHO),
    (200, {"choices": [{"message": {"content": ECHO}, "finish_reason": "stop"}]}),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{at}-{fault[0]}" for at, fault in enumerate(FAULTS)])
@pytest.mark.parametrize("embeddings", [False, True], ids=["chat", "embeddings"])
def test_a_server_that_repeats_the_key_puts_it_into_no_message(stub, caplog, fault, embeddings):
    caplog.set_level(logging.DEBUG)
    stub.usual = lambda body: fault
    if embeddings:
        model = OpenAIEmbeddings("small", base_url=stub.url, retries=1)
        error = error_of(lambda: model.encode(["Heat"]))
    else:
        model = OpenAIChat("small", base_url=stub.url, retries=1)
        error = error_of(lambda: model.generate(ASKED))
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    trace = "".join(traceback.format_exception(error))
    assert error.args
    for text in (str(error), repr(error.args), trace, repr(model), str(vars(model)), caplog.text):
        assert not holds_key(text)
    assert len(caplog.records) > 0  # the libraries do write a log


def test_the_refusal_of_a_key_names_its_variable(stub):
    stub.script = [(401, {"error": "no"})]
    said = str(error_of(lambda: OpenAIChat("small", base_url=stub.url).generate(ASKED)))
    assert "refused the key (401). Check the environment variable OPENAI_API_KEY." in said


def test_an_answer_that_repeats_the_key_is_not_kept(stub):
    stub.script = [stub.chat(ECHO)]
    error = error_of(lambda: OpenAIChat("small", base_url=stub.url).generate(ASKED))
    assert isinstance(error, LLMRequestError)
    assert "repeats the key in OPENAI_API_KEY, so it is not kept" in str(error)


def test_nothing_that_is_stored_holds_the_key(stub):
    model = OpenAIChat("small", base_url=stub.url)
    model.generate(ASKED)
    assert not holds_key(repr(model) + json.dumps(model.identity) + str(model.__getstate__()))
    assert KEY.encode() not in pickle.dumps(model)


@pytest.mark.parametrize("value", [f"{KEY} {KEY}", f"{KEY}\nX: y", f"{KEY}é", "“" + KEY])
def test_a_key_that_no_header_can_hold_is_refused_without_a_call(stub, monkeypatch, value):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    error = error_of(lambda: OpenAIChat("small", base_url=stub.url).generate(ASKED))
    assert "OPENAI_API_KEY holds blanks or characters that no key has" in str(error)
    assert not holds_key("".join(traceback.format_exception(error)))
    assert not stub.bodies


def test_a_key_in_place_of_its_variable_is_refused():
    error = error_of(lambda: OpenAIChat("small", key_env=KEY))
    assert "key_env is the name of an environment variable, never the key itself" in str(error)
    assert not holds_key("".join(traceback.format_exception(error)))


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{KEY}@models.example/v1", f"https://{KEY}@models.example/v1", "models.example/v1",
        f"https://models.example/v1?key={KEY}", f"https://models.example/v1#{KEY}", "https:///v1", "",
        "ftp://models.example", "https://models.example:port/v1", "http://localhost\\@models.example/v1",
        "https://models.example/v1 ", "https://[::1/v1", "https://models.example/\nv1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [OpenAIChat, OpenAIEmbeddings])
def test_an_address_with_anything_else_in_it_is_refused(kind, url):
    error = error_of(lambda: kind("small", base_url=url))
    assert "base_url must be http:// or https://" in str(error)
    assert not holds_key("".join(traceback.format_exception(error)))


NOWHERE = "http://models.invalid/v1"


@pytest.fixture
def allowed(monkeypatch):
    """The environment trusts this server, in whatever way it is written."""
    monkeypatch.setenv("RECLOOM_KEY_HOSTS", "other.example, Models.INVALID")


def attempts(monkeypatch):
    """Addresses that would be called; none is."""
    import httpx

    found = []

    def refuse(self, request):
        found.append((str(request.url), request.headers.get("Authorization")))
        raise httpx.ConnectError("no network in a test")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refuse)
    return found


def test_the_key_does_not_leave_this_machine_unencrypted(monkeypatch, allowed):
    called = attempts(monkeypatch)
    said = str(error_of(lambda: OpenAIChat("small", base_url=NOWHERE).generate(ASKED)))
    assert "the key in OPENAI_API_KEY would go to models.invalid unencrypted" in said
    assert "allow_plain_http" in said
    assert not called


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"base_url": NOWHERE, "allow_plain_http": True}, f"Bearer {KEY}"),
        ({"base_url": "https://api.openai.com/v1"}, f"Bearer {KEY}"),
        ({"base_url": NOWHERE, "key_env": None}, None),
        ({"base_url": "https://models.invalid/v1"}, f"Bearer {KEY}"),
        ({"base_url": "http://localhost:1/v1"}, f"Bearer {KEY}"),
        ({"base_url": "http://[::1]:1/v1"}, f"Bearer {KEY}"),
        ({"base_url": "http://127.0.0.2:1/v1"}, f"Bearer {KEY}"),
    ],
)
def test_where_the_key_may_go(monkeypatch, allowed, options, header):
    called = attempts(monkeypatch)
    error_of(lambda: OpenAIChat("small", retries=0, **options).generate(ASKED))
    assert called == [(options["base_url"] + "/chat/completions", header)]


@pytest.mark.parametrize("kind", [OpenAIChat, OpenAIEmbeddings])
@pytest.mark.parametrize("key_env", ["OPENAI_API_KEY", "CLOUD_SECRET"])
@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (None, "https://models.invalid/v1"),
        ("", "https://models.invalid/v1"),
        ("models.invalid:8443", "https://models.invalid/v1"),
        ("models.invalid", "https://evil.models.invalid/v1"),
        ("models.invalid", "https://models.invalid.evil/v1"),
        ("*,invalid,.invalid", "https://models.invalid/v1"),
        (None, "https://api.openai.com.invalid/v1"),
    ],
)
def test_a_configuration_cannot_send_a_key_where_the_environment_does_not_allow(
    monkeypatch, kind, key_env, hosts, url
):
    monkeypatch.setenv("CLOUD_SECRET", KEY)
    monkeypatch.delenv("RECLOOM_KEY_HOSTS", raising=False)
    if hosts is not None:
        monkeypatch.setenv("RECLOOM_KEY_HOSTS", hosts)
    called = attempts(monkeypatch)
    model = kind("small", base_url=url, key_env=key_env, retries=0)
    ask = (lambda: model.generate(ASKED)) if kind is OpenAIChat else (lambda: model.encode(["a"]))
    error = error_of(ask)
    host = url.split("/")[2]
    assert f"the key in {key_env} would go to {host}, which nothing in the environment allows" in str(error)
    assert f"set RECLOOM_KEY_HOSTS={host}" in str(error)
    assert not holds_key("".join(traceback.format_exception(error)))
    assert not called


@pytest.mark.parametrize("hosts", ["models.invalid", "a.example, models.invalid:8443"])
def test_a_host_is_allowed_with_every_port_or_with_one(monkeypatch, hosts):
    monkeypatch.setenv("RECLOOM_KEY_HOSTS", hosts)
    called = attempts(monkeypatch)
    url = "https://models.invalid:8443/v1"
    error_of(lambda: OpenAIChat("small", base_url=url, retries=0).generate(ASKED))
    assert called == [(f"{url}/chat/completions", f"Bearer {KEY}")]


@pytest.mark.parametrize(
    "url",
    ["http://localhost.models.invalid/v1", "http://127.0.0.1.models.invalid/v1", "http://10.0.0.1/v1", "http://0/v1"],
)  # fmt: skip
def test_what_only_looks_like_this_machine_is_another(monkeypatch, url):
    called = attempts(monkeypatch)
    assert "nothing in the environment allows" in str(
        error_of(lambda: OpenAIChat("small", base_url=url).generate(ASKED))
    )
    monkeypatch.setenv("RECLOOM_KEY_HOSTS", url.split("/")[2])
    assert "unencrypted" in str(error_of(lambda: OpenAIChat("small", base_url=url).generate(ASKED)))
    assert not called


@pytest.mark.parametrize("value", [None, "", "  "])
def test_another_machine_without_a_key_is_not_called(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("OPENAI_API_KEY")
    else:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    called = attempts(monkeypatch)
    said = str(error_of(lambda: OpenAIChat("small").generate(ASKED)))
    assert "no key for api.openai.com: set the environment variable OPENAI_API_KEY" in said
    assert not called


def test_masks_leave_no_run_of_eight():
    for size in range(8, len(KEY) + 1):
        for part in parts(size):
            assert without_key(f"a {part.upper()} b", KEY) == "a [key] b"
    assert without_key(f"a {KEY[:7]} b", KEY) == f"a {KEY[:7]} b"
    assert without_key("key none, none", "none") == "key [key], [key]"
    assert without_key("untouched", "") == "untouched"
    assert error_message(json.dumps({"error": {"message": f"{KEY}!"}}), KEY) == "[key]!"


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "MY_ACCESS"])
def test_an_answer_that_spells_the_key_in_escapes_is_not_kept(stub, monkeypatch, name):
    monkeypatch.setenv(name, KEY)
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    whole = json.dumps(stub.chat("here: KEY")).replace("KEY", spelled)
    assert KEY not in whole
    server = OpenAIChat("small", base_url=stub.url, key_env=name)
    with pytest.raises(LLMRequestError, match=f"repeats the key in {name}"):
        server._parsed(whole, KEY)


def test_a_key_in_a_variable_of_any_name_is_searched_for(stub, monkeypatch):
    from recloom.llm.openai.redaction import without_secrets

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("MY_ACCESS", KEY)
    OpenAIChat("small", base_url=stub.url, key_env="MY_ACCESS").generate(ASKED)
    assert without_secrets(f"say {KEY}") == "say [value of MY_ACCESS]"
