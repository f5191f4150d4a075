"""Text vectors of a server; the server is a stub on this machine."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from recloom.errors import LLMRequestError, RecloomError
from recloom.llm.openai.embeddings import OpenAIEmbeddings


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def vector(text, size=3):
    """What the stub gives: not of length 1, and different for each text."""
    return [float(len(text)), float(ord(text[0])), *([1.0] * (size - 2))]


def listed(body, size=3):
    return [{"index": at, "embedding": vector(text, size)} for at, text in enumerate(body["input"])]


@pytest.fixture
def served(stub):
    stub.usual = lambda body: {"data": listed(body)}
    return stub


def encoder(stub, **options):
    return OpenAIEmbeddings("vectors", base_url=stub.url, **{"retries": 2} | options)


def unit(text):
    return np.array(vector(text)) / np.linalg.norm(vector(text))


def test_batches_come_back_in_the_order_of_the_texts(served):
    served.usual = lambda body: {"data": listed(body)[::-1]}  # the index says where each belongs
    texts = [f"{chr(97 + at % 26)}{'x' * at}" for at in range(25)]
    found = encoder(served, batch_size=4, concurrency=3).encode(texts)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([unit(text) for text in texts]), abs=1e-6)
    assert sorted(len(body["input"]) for body in served.bodies) == [1, 4, 4, 4, 4, 4, 4]
    assert served.paths[0] == "/v1/embeddings"
    assert set(served.bodies[0]) == {"model", "input"}


def test_batches_are_asked_for_at_the_same_time(served):
    served.latency = 0.02
    encoder(served, batch_size=1, concurrency=3).encode([f"text {at}" for at in range(12)])
    assert 1 < served.most <= 3


def test_empty_texts_are_zero_and_not_sent(served):
    found = encoder(served).encode(["", "Heat", " \n", "Alien"])
    assert [body["input"] for body in served.bodies] == [["Heat", "Alien"]]
    assert not found[[0, 2]].any()
    assert np.linalg.norm(found[[1, 3]], axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_the_size_is_that_of_the_first_answer(served):
    model = encoder(served)
    model.encode(["Heat"])
    assert model.dim == 3
    assert len(served.bodies) == 1
    assert model.encode([]).shape == (0, 3)
    assert model.normalized
    assert model.max_tokens is None


def test_the_size_can_be_asked_for_before_any_text(served):
    assert encoder(served).encode(["", ""]).shape == (2, 3)
    assert len(served.bodies) == 1


def test_a_size_can_be_wished_for(served):
    model = encoder(served, dimensions=5)
    assert model.dim == 5
    assert not served.bodies
    served.usual = lambda body: {"data": listed(body, body["dimensions"])}
    assert model.encode(["Heat"]).shape == (1, 5)
    assert served.bodies[0]["dimensions"] == 5


def first(body, **changes):
    """The right answer, but for the first entry."""
    return {"data": [listed(body)[0] | changes, *listed(body)[1:]]}


@pytest.mark.parametrize(
    ("usual", "words"),
    [
        (lambda body: {"data": listed(body)[1:]}, "gave 1 vectors for 2 texts"),
        (lambda body: {"data": listed(body) * 2}, "gave 4 vectors for 2 texts"),
        (lambda body: {"data": None}, "gave no vectors for 2 texts"),
        (lambda body: {"data": ["x", "y"]}, "numbered its vectors wrongly"),
        (lambda body: first(body, index=1), "numbered its vectors wrongly: expected each of 0 to 1 once"),
        (lambda body: first(body, index=2), "numbered its vectors wrongly"),
        (lambda body: first(body, index=None), "numbered its vectors wrongly"),
        (lambda body: first(body, embedding=[1.0]), "no lists of numbers of one length"),
        (lambda body: first(body, embedding="AAAA"), "no lists of numbers of one length"),
        (lambda body: {"data": [entry | {"embedding": []} for entry in listed(body)]}, "no lists of numbers"),
        (lambda body: first(body, embedding=[1.0, float("nan"), 0.0]), "a number that is not finite"),
        (lambda body: first(body, embedding=[1.0, float("inf"), 0.0]), "a number that is not finite"),
        (lambda body: first(body, embedding=[1.0, None, 0.0]), "a number that is not finite"),
    ],
)
def test_what_is_not_one_vector_per_text_is_refused(stub, usual, words):
    stub.usual = usual
    with pytest.raises(RecloomError, match=words) as caught:
        encoder(stub).encode(["Heat", "Alien"])
    assert "vectors at 127.0.0.1:" in str(caught.value)
    assert len(stub.bodies) == 1


def test_vectors_of_another_size_are_refused(stub):
    sizes = iter([3, 4])
    stub.usual = lambda body: {"data": listed(body, next(sizes))}
    model = encoder(stub, batch_size=1, concurrency=1)
    with pytest.raises(RecloomError, match=r"gave vectors of 4 numbers; expected 3"):
        model.encode(["Heat", "Alien"])
    stub.usual = lambda body: {"data": listed(body, 4)}
    with pytest.raises(RecloomError, match=r"gave vectors of 4 numbers; expected 6"):
        encoder(stub, dimensions=6).encode(["Heat"])


def test_an_error_ends_the_asking(stub):
    stub.usual = lambda body: (400, {"error": "too long"})
    with pytest.raises(LLMRequestError, match=r"refused the request \(400\): too long"):
        encoder(stub, batch_size=1, concurrency=2).encode([f"text {at}" for at in range(100)])
    assert len(stub.bodies) < 50


def test_passing_faults_are_asked_again(served):
    served.script = [(429, "", {"Retry-After": "0"}), served.DROP]
    assert encoder(served).encode(["Heat"])[0] == pytest.approx(unit("Heat"), abs=1e-6)
    assert len(served.bodies) == 3


def test_the_identity_is_what_determines_a_vector():
    assert OpenAIEmbeddings("vectors", batch_size=3, concurrency=9).identity == {
        "class": "OpenAIEmbeddings", "model": "vectors", "base_url": "https://api.openai.com/v1",
        "dimensions": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": ""}, "needs the name of a model"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"dimensions": 0}, "dimensions must be at least 1"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(RecloomError, match=words):
        OpenAIEmbeddings(**{"model": "vectors"} | options)


def test_it_is_registered_and_names_the_libraries_it_needs(monkeypatch):
    from recloom.plugins import collect

    assert collect("register_language_models")["OpenAIEmbeddings"] is OpenAIEmbeddings
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(RecloomError, match="OpenAIEmbeddings needs httpx and tenacity: pip install"):
        OpenAIEmbeddings("vectors").encode(["Heat"])
