"""Options scored by the log-probabilities of the first token; the server is a stub on this machine."""

from __future__ import annotations

import math

import pytest
from recloom.errors import LLMRequestError, RecloomError
from recloom.llm import Scores
from recloom.llm.openai.chat import OpenAIChat

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which film?"}]


@pytest.fixture
def model(stub):
    return OpenAIChat("small", base_url=stub.url, key_env=None)


def first_tokens(stub, **logprobs):
    top = [{"token": token.replace("_", " "), "logprob": value} for token, value in logprobs.items()]
    response = stub.chat("x", reason="length")
    response["choices"][0]["logprobs"] = {"content": [{"token": "x", "logprob": -9.0, "top_logprobs": top}]}
    return response


def test_options_are_scored_by_their_token_with_and_without_a_blank(stub, model):
    stub.script = [first_tokens(stub, A=math.log(0.5), _A=math.log(0.25), _B=math.log(0.125), C=-3.0)]
    assert model.score(ASKED, ["A", " B"]) == pytest.approx([math.log(0.75), math.log(0.125)], abs=1e-12)
    asked = {"temperature": 1.0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    assert stub.bodies == [{"model": "small", "messages": ASKED} | asked]


def test_several_questions_are_scored_and_the_failed_one_is_returned(stub, model):
    stub.script = [
        first_tokens(stub, yes=-1.0, no=-0.5),
        first_tokens(stub, yes=-1.0),
        (400, {"error": "logprobs?"}),
    ]
    good, bad, refused = model.score_batch([ASKED] * 3, [["no", "yes"]] * 3)
    assert good == Scores([-0.5, -1.0], 7, 3)
    assert isinstance(bad, LLMRequestError)
    assert "scoring is not possible here: ['no'] not among the 1 most probable tokens" in str(bad)
    assert "scoring is not possible here: " in str(refused)
    assert "logprobs?" in str(refused)


def test_tokens_that_a_server_does_not_report_are_estimated_and_said_to_be(stub, model):
    stub.script = [
        first_tokens(stub, A=-1.0, B=-0.5) | {"usage": usage} for usage in (None, {"prompt_tokens": 9})
    ]
    found = model.score_batch([ASKED] * 2, [["A", "B"]] * 2)
    asked = sum(model.count_tokens(message["content"]) for message in ASKED)
    assert [(one.prompt_tokens, one.completion_tokens, one.estimated) for one in found] == [
        (asked, 1, True),
        (9, 1, True),
    ]


@pytest.mark.parametrize("options", [["A", " A"], ["A", "A"], ["A", ""], ["A", " "]])
def test_options_that_share_a_token_are_refused_before_they_are_asked(stub, model, options):
    with pytest.raises(LLMRequestError, match="options must be different and not empty"):
        model.score(ASKED, options)
    assert not stub.bodies


def test_a_server_that_extends_an_option_does_not_score_it(stub, model):
    stub.script = [first_tokens(stub, Apple=-0.1, A=-2.0)]
    with pytest.raises(LLMRequestError, match=r"\['Apple pie'\] not among the 2 most probable"):
        model.score(ASKED, ["A", "Apple pie"])


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": None}, {"content": []}, {"content": [{"token": "A"}]}]
)
def test_a_server_without_log_probabilities_cannot_score(stub, model, logprobs):
    stub.script = [stub.chat("A")]
    stub.script[0]["choices"][0]["logprobs"] = logprobs
    with pytest.raises(RecloomError, match=r"small at .* returns no log-probabilities") as caught:
        model.score(ASKED, ["A", "B"])
    assert not isinstance(caught.value, LLMRequestError)


@pytest.mark.parametrize("value", [0.7, math.nan])
def test_probabilities_are_not_taken_for_logarithms(stub, model, value):
    stub.script = [first_tokens(stub, A=value, B=-0.2)]
    with pytest.raises(RecloomError, match="are no log-probabilities"):
        model.score(ASKED, ["A", "B"])
