"""The language models and the encoder of core keep their contracts; what breaks them is named."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from recloom.errors import LLMRequestError
from recloom.llm import Generation, HashingNgrams, LanguageModel, Scores
from recloom.llm.fake import Fake
from recloom.llm.local.transformers import Transformers
from recloom.llm.openai.chat import OpenAIChat
from recloom.testing import LanguageModelTests, TextEncoderTests


class TestFake(LanguageModelTests):
    model = Fake()
    holds_schema = True
    follows_options = False  # it knows the order in the prompt alone


class TestHashingNgrams(TextEncoderTests):
    encoder = HashingNgrams(dim=64)


class TestTransformers(LanguageModelTests):
    unanswerable = "x" * 200

    @pytest.fixture
    def language_model(self, folder):
        return Transformers(str(folder), dtype="float32", device="cpu", batch_size=3, max_length=400)


class TestOpenAIChat(LanguageModelTests):
    unanswerable = "refuse this"

    @pytest.fixture
    def language_model(self, stub):
        def usual(body):
            said = body["messages"][-1]["content"]
            if said == "refuse this":
                return 400, {"error": {"message": "no"}}
            if "logprobs" in body:
                top = [{"token": name, "logprob": -len(said) / n} for n, name in enumerate("BA", 300)]
                return stub.chat(
                    "A", choices=[{"message": {}, "logprobs": {"content": [{"top_logprobs": top}]}}]
                )
            return stub.chat(*[f"{len(said)} letters"] * body.get("n", 1))

        stub.usual = usual
        return OpenAIChat("small", base_url=stub.url, key_env=None, retries=0)


@dataclass(frozen=True)
class Broken(LanguageModel):
    """Breaks the contract in one way."""

    how: str = ""
    can_score = True

    def generate(self, messages, *, n=1, temperature=0.0, max_tokens=256, seed=0, schema=None):
        if messages[0]["content"] == "refuse":
            raise (ValueError if self.how == "raises" else LLMRequestError)("no")
        texts = ["red"] * (1 if self.how == "one" else n)
        return Generation(texts, 3, -1 if self.how == "tokens" else 2)

    def score_batch(self, prompts, options):
        low = 1.0 if self.how == "positive" else math.nan if self.how == "nan" else -1.0
        by_place = self.how == "by place"
        return [
            Scores([low - (at if by_place else len(o)) for at, o in enumerate(each)], 3) for each in options
        ]

    @property
    def identity(self):
        return {"class": "Other"} if self.how == "identity" else super().identity


@pytest.mark.parametrize(
    ("how", "check", "says"),
    [
        ("one", "as_many_answers_as_asked_for_come_with_what_they_cost", "n=2 gave 1 answers"),
        ("tokens", "as_many_answers_as_asked_for_come_with_what_they_cost", "it counts 3 and -1 tokens"),
        ("nan", "scores_are_log_probabilities_that_follow_their_options", "are no log-probabilities"),
        ("by place", "scores_are_log_probabilities_that_follow_their_options", "depends on where it stands"),
        ("identity", "it_is_plain_data_with_an_identity", "does not name the class"),
    ],
)
def test_what_breaks_the_contract_is_named(how, check, says):
    with pytest.raises(AssertionError, match=f"Broken breaks the contract: .*{says}"):
        getattr(LanguageModelTests(), f"test_{check}")(Broken(how))


def test_an_error_of_another_kind_is_not_taken_for_a_failed_request():
    tests = LanguageModelTests()
    tests.unanswerable = "refuse"
    tests.test_what_cannot_be_answered_fails_by_itself(Broken())
    with pytest.raises(ValueError, match="no"):
        tests.test_what_cannot_be_answered_fails_by_itself(Broken("raises"))


@dataclass(frozen=True)
class Mixing(HashingNgrams):
    """A vector that depends on the other texts."""

    def encode(self, texts):
        found = super().encode(texts)
        return found if len(found) < 2 else np.roll(found, 1, axis=0)


def test_an_encoder_that_mixes_texts_is_named():
    with pytest.raises(
        AssertionError, match="Mixing breaks the contract: the vector of a text depends on its batch"
    ):
        TextEncoderTests().test_a_vector_depends_on_its_own_text_alone(Mixing(dim=64))
