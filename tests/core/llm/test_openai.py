"""What is sent to a chat server and what its answers mean; the server is a stub on this machine."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from recloom.errors import LLMRequestError, RecloomError
from recloom.llm import Generation, LanguageModel
from recloom.llm.openai.chat import OpenAIChat
from recloom.spec import describe

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which film?"}]
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def model(stub):
    return OpenAIChat("small", base_url=stub.url, retries=3, timeout=30)


def failure(model, kind=RecloomError, **options):
    with pytest.raises(kind) as caught:
        model.generate(ASKED, **options)
    assert type(caught.value) is kind  # a LLMRequestError is a RecloomError too
    return str(caught.value)


def test_a_question_becomes_a_request(stub, model):
    stub.script = [stub.chat("Heat")]
    found = model.generate(ASKED, temperature=0.5, max_tokens=9, seed=4, schema=SCHEMA)
    assert found == Generation(["Heat"], 7, 3)
    assert stub.paths == ["/v1/chat/completions"]
    sent = {"model": "small", "messages": ASKED, "temperature": 0.5, "max_tokens": 9, "seed": 4}
    assert stub.bodies == [sent]
    assert "authorization" not in stub.headers[0]


def test_the_schema_is_sent_where_the_server_takes_it(stub):
    OpenAIChat("small", base_url=stub.url, structured="json_schema").generate(ASKED, schema=SCHEMA)
    assert stub.bodies[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    OpenAIChat("small", base_url=stub.url, structured="json_object").generate(ASKED, schema=SCHEMA)
    assert stub.bodies[1]["response_format"] == {"type": "json_object", "schema": SCHEMA}


def test_lengths_of_texts_are_left_to_the_check_of_the_reply(stub):
    """llama.cpp's grammar of a text of 1,200 characters at most ended its server."""
    text = {"type": "string", "maxLength": 1200}
    schema = {"type": "object", "properties": {"a": text, "maxLength": {"type": "array", "items": text}}}
    OpenAIChat("small", base_url=stub.url, structured="json_object").generate(ASKED, schema=schema)
    assert stub.bodies[0]["response_format"]["schema"] == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "maxLength": {"type": "array", "items": {"type": "string"}}},
    }
    assert text["maxLength"] == 1200


def test_fields_can_be_renamed_added_and_left_out(stub):
    extra = {"seed": None, "top_p": 0.9}
    OpenAIChat("m", base_url=stub.url, token_limit="max_completion_tokens", extra=extra).generate(ASKED)
    wanted = {"model": "m", "messages": ASKED, "temperature": 0.0, "max_completion_tokens": 256, "top_p": 0.9}
    assert stub.bodies == [wanted]


def test_n_answers_come_of_one_request(stub, model):
    stub.script = [stub.chat("a", "b", "c")]
    assert model.generate(ASKED, n=3).texts == ["a", "b", "c"]
    assert [body["n"] for body in stub.bodies] == [3]


def test_a_server_that_ignores_n_is_asked_again_with_other_seeds(stub, model):
    stub.usual = lambda body: stub.chat(f"seed {body['seed']}")
    found = model.generate(ASKED, n=3, seed=10)
    assert found == Generation(["seed 10", "seed 11", "seed 12"], 21, 9)
    assert [body.get("n") for body in stub.bodies] == [3, None, None]


def test_answers_beyond_n_are_left(stub, model):
    stub.script = [stub.chat("a", "b", "c")]
    assert model.generate(ASKED, n=2).texts == ["a", "b"]


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": -1}, "many"])
def test_tokens_that_the_server_does_not_count_are_estimated(stub, model, usage):
    stub.script = [stub.chat("x" * 36, usage=usage)]
    found = model.generate(ASKED)
    assert (found.prompt_tokens, found.completion_tokens) == (3 + 4, 11)  # 9, 11 and 36 characters over 3.5


def test_an_answer_that_was_cut_says_so(stub, model):
    stub.script = [stub.chat("He", reason="length"), stub.chat("Heat")]
    found = model.generate(ASKED, n=2)
    assert (found.texts, found.cut) == (["He", "Heat"], 1)


def changed(response, **message):
    response["choices"][0]["message"] |= message
    return response


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda s: s.chat("x", reason="content_filter"), "withheld the answer (content_filter)"),
        (
            lambda s: changed(s.chat("x", reason="length"), content=None),
            "used up max_tokens before the answer",
        ),
        (lambda s: changed(s.chat("x"), content=None, refusal="Not this."), "the model refused: Not this."),
        (
            lambda s: changed(s.chat("x", reason="tool_calls"), content=None),
            "without text (finish_reason 'tool_calls')",
        ),
        (lambda s: {"choices": [{"finish_reason": "stop"}]}, "without text (finish_reason 'stop')"),
        (lambda s: {"choices": []}, "answered without choices"),
        (lambda s: {"object": "list"}, "answered without choices"),
        (lambda s: {"choices": ["x"]}, "answered without choices"),
        (
            lambda s: (200, "<html>Welcome</html>"),
            "no JSON object: '<html>Welcome</html>'. Is base_url right",
        ),
        (lambda s: (200, "[1]"), "no JSON object: '[1]'"),
        (lambda s: (200, ""), "no JSON object: 'no message'"),
    ],
)
def test_an_answer_without_a_text_fails_that_question_alone(stub, model, make, words):
    stub.script = [make(stub)]
    assert words in failure(model, LLMRequestError)
    assert len(stub.bodies) == 1  # it was answered, and perhaps paid for
    assert model.generate(ASKED).texts == ["fine"]


def test_threads_share_as_many_connections_as_were_asked_for(stub):
    stub.latency = 0.003
    model = OpenAIChat("small", base_url=stub.url, concurrency=3)
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda _: model.generate(ASKED), range(300)))
    assert len(stub.bodies) == 300  # one more would be paid for twice
    assert 1 < stub.most <= 3
    assert len(stub.ports) <= 3


def test_a_proxy_of_the_environment_is_not_for_this_machine(stub, model, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    assert model.generate(ASKED).texts == ["fine"]


def test_copies_open_connections_of_their_own(stub, model):
    model.generate(ASKED)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other == model
        other.generate(ASKED)
    assert len(stub.ports) == 3


def test_the_identity_is_what_determines_an_answer():
    found = OpenAIChat("small", base_url="http://localhost:8000/v1/", extra={"top_p": 1}).identity
    assert found == {
        "class": "OpenAIChat", "model": "small", "base_url": "http://localhost:8000/v1", "structured": None,
        "token_limit": "max_tokens", "extra": {"top_p": 1},
    }  # fmt: skip


def test_it_is_plain_data_and_registered():
    from recloom.plugins import collect

    assert collect("register_language_models")["OpenAIChat"] is OpenAIChat
    assert describe(OpenAIChat)["class_path"] == "OpenAIChat"
    assert json.dumps(OpenAIChat("small").identity)
    assert issubclass(OpenAIChat, LanguageModel)
    assert OpenAIChat.can_score


def test_registering_loads_no_http_library():
    code = (
        "import sys; from recloom.llm import core_language_models as found; found();"
        "print({'httpx', 'tenacity', 'torch'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize("library", ["httpx", "tenacity"])
def test_a_library_that_is_missing_is_named(model, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    assert "OpenAIChat needs httpx and tenacity: pip install 'recloom[llm]'" in failure(model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": ""}, "needs the name of a model"),
        ({"extra": {"messages": []}}, "any field but model, messages, stream"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"timeout": 0}, "timeout must be at least"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(RecloomError, match=words):
        OpenAIChat(**{"model": "small"} | options)


@pytest.mark.parametrize("count", [10**30, -1, 1.5, "7", None])
def test_a_count_of_tokens_that_is_none_is_estimated(stub, count):
    stub.script = [stub.chat("fine", usage={"prompt_tokens": count, "completion_tokens": count})]
    response = OpenAIChat("small", base_url=stub.url).generate(ASKED)
    assert 0 <= response.prompt_tokens < 100
    assert 0 <= response.completion_tokens < 100
