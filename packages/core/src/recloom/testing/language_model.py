"""The contracts of a language model and of a text encoder as test classes.

from recloom.testing import LanguageModelTests

class TestMyServer(LanguageModelTests):
    model = MyServer(address="http://localhost:9000")
    unanswerable = "word " * 100_000
"""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import BaseModel

from ..errors import LLMRequestError, RecloomError
from ..llm import Component, Failure, LanguageModel, LLMOptions, LLMRequest, Message, TextEncoder
from ..spec import build, describe

QUESTIONS = (
    "Name a colour.",
    "Which comes next?\n<d>1. red\n2. green\n3. blue</d>\nA longer question than the others, so that prompts differ.",
    "<d>A. tea\nB. coffee</d>\nA or B?",
)
OPTIONS = ("A", "B")


class Colour(BaseModel):
    """What the check of schemas asks for."""

    colour: str


class ComponentTests:
    """What holds for every component: plain data that builds it again, and an identity of plain data."""

    def plain_data(self, component: Component) -> None:
        """A frozen dataclass whose description, as a checkpoint holds it, builds an equal one."""
        parameters = getattr(type(component), "__dataclass_params__", None)
        assert parameters is not None, self._says(component, "it is no dataclass")
        assert parameters.frozen, self._says(component, "it can be changed; use @dataclass(frozen=True)")
        names = [field.name for field in dataclasses.fields(component) if field.init]  # type: ignore[arg-type]
        unknown = sorted(set(component.without_effect) - set(names))
        assert not unknown, self._says(component, f"without_effect names {unknown[0]!r}, which is no field")
        values = {name: getattr(component, name) for name in names}
        stored = json.loads(json.dumps(describe(partial(type(component), **values))))
        again = build("register_language_models", stored)
        assert again.identity == component.identity, self._says(component, "a checkpoint builds another one")

    def plain_identity(self, component: Component) -> None:
        """JSON, the same each time, that names the class."""
        identity = component.identity
        assert identity == json.loads(json.dumps(identity)), self._says(
            component, "its identity is no plain JSON"
        )
        assert identity == component.identity, self._says(component, "its identity changes by itself")
        assert identity.get("class") == type(component).__name__, self._says(
            component, "its identity does not name the class"
        )

    def _says(self, component: Component, what: str) -> str:
        return f"{type(component).__name__} breaks the contract: {what}."


class LanguageModelTests(ComponentTests):
    """Subclass it, name a language model, and pytest checks the contract; each failure says what was broken.

    Attributes:
        model: the language model under test; override the fixture `language_model` where it needs another fixture.
        unanswerable: a message that it must refuse by LLMRequestError, such as one that is too long; None = the
            check is skipped.
        holds_schema: whether an answer must obey the JSON schema that was asked for.
        follows_options: whether an option keeps its score where the options are given in another order.
        tolerance: how far two log-probabilities of the same option may differ.
    """

    model: ClassVar[LanguageModel]
    unanswerable: ClassVar[str | None] = None
    holds_schema: ClassVar[bool] = False
    follows_options: ClassVar[bool] = True
    tolerance: ClassVar[float] = 1e-4

    @pytest.fixture
    def language_model(self) -> LanguageModel:
        """The language model under test."""
        return type(self).model

    # -- answers --------------------------------------------------------------------------------------

    def test_as_many_answers_as_asked_for_come_with_what_they_cost(
        self, language_model: LanguageModel
    ) -> None:
        """`generate(n=2)`: two texts, tokens of 0 or more, and at most two cut answers."""
        found = language_model.generate(_messages(QUESTIONS[0]), n=2, max_tokens=16)
        assert len(found.texts) == 2, self._says(language_model, f"n=2 gave {len(found.texts)} answers")
        assert all(isinstance(text, str) for text in found.texts), self._says(
            language_model, "an answer is no text"
        )
        costs = (found.prompt_tokens, found.completion_tokens, 2 - found.cut, found.cut)
        assert all(isinstance(cost, int) and cost >= 0 for cost in costs), self._says(
            language_model,
            f"it counts {found.prompt_tokens} and {found.completion_tokens} tokens, {found.cut} cut",
        )

    def test_temperature_0_gives_the_same_answer_each_time(self, language_model: LanguageModel) -> None:
        """A figure of a greedy model can be repeated."""
        first, second = (language_model.generate(_messages(QUESTIONS[1]), max_tokens=16) for _ in range(2))
        assert first.texts == second.texts, self._says(
            language_model, "temperature 0 gave two different answers"
        )

    def test_a_batch_answers_each_conversation_as_if_alone(self, language_model: LanguageModel) -> None:
        """`generate_batch`: an answer for each conversation, in order, whatever stands beside it."""
        conversations = [_messages(question) for question in QUESTIONS]
        together = language_model.generate_batch(conversations, max_tokens=16)
        assert len(together) == len(conversations), self._says(
            language_model, f"{len(conversations)} conversations got {len(together)} answers"
        )
        for messages, found in zip(conversations, together, strict=True):
            assert not isinstance(found, LLMRequestError), self._says(language_model, f"it failed: {found}")
            alone = language_model.generate(messages, max_tokens=16)
            assert found.texts == alone.texts, self._says(language_model, "an answer depends on its batch")

    def test_what_cannot_be_answered_fails_by_itself(self, language_model: LanguageModel) -> None:
        """`generate` raises LLMRequestError; `generate_batch` returns it in its place and answers the others."""
        if self.unanswerable is None:
            pytest.skip("no unanswerable request is named")
        with pytest.raises(LLMRequestError):
            language_model.generate(_messages(self.unanswerable), max_tokens=16)
        conversations = [_messages(text) for text in (QUESTIONS[0], self.unanswerable, QUESTIONS[1])]
        failed = [
            isinstance(found, LLMRequestError)
            for found in language_model.generate_batch(conversations, max_tokens=16)
        ]
        assert failed == [False, True, False], self._says(
            language_model, f"of three conversations, of which the second has no answer, failed: {failed}"
        )

    def test_a_schema_is_accepted_and_obeyed_where_that_is_promised(
        self, language_model: LanguageModel
    ) -> None:
        """`schema` is the JSON schema of the wanted object; a model that cannot be held to it ignores it."""
        schema = Colour.model_json_schema()
        found = language_model.generate(_messages(QUESTIONS[0]), max_tokens=64, schema=schema)
        assert len(found.texts) == 1, self._says(language_model, "a schema changes the number of answers")
        if self.holds_schema:
            Colour.model_validate_json(found.texts[0])

    # -- scores ---------------------------------------------------------------------------------------

    def test_scores_are_log_probabilities_that_follow_their_options(
        self, language_model: LanguageModel
    ) -> None:
        """Where `can_score`: a finite number up to 0 for each option, whatever their order and their batch."""
        if not language_model.can_score:
            pytest.skip("it does not score")
        prompts = [_messages(question) for question in QUESTIONS]
        together = language_model.score_batch(prompts, [OPTIONS] * len(prompts))
        assert len(together) == len(prompts), self._says(language_model, "a prompt got no scores")
        for messages, found in zip(prompts, together, strict=True):
            assert not isinstance(found, LLMRequestError), self._says(language_model, f"it failed: {found}")
            fair = len(found.log_probs) == len(OPTIONS) and all(
                -math.inf < s <= 1e-3 for s in found.log_probs
            )
            assert fair, self._says(
                language_model, f"{found.log_probs} are no log-probabilities of {OPTIONS}"
            )
            turned = language_model.score(messages, OPTIONS[::-1])
            if self.follows_options:
                assert turned[::-1] == pytest.approx(found.log_probs, abs=self.tolerance), self._says(
                    language_model, "the score of an option depends on where it stands"
                )
            alone = language_model.score(messages, OPTIONS)
            assert alone == pytest.approx(found.log_probs, abs=self.tolerance), self._says(
                language_model, "the score of an option depends on the other prompts"
            )

    def test_what_cannot_score_says_so(self, language_model: LanguageModel) -> None:
        """Without `can_score`: a RecloomError for all requests, and never a number."""
        if language_model.can_score:
            pytest.skip("it scores")
        with pytest.raises(RecloomError) as refused:
            language_model.score(_messages(QUESTIONS[2]), OPTIONS)
        assert not isinstance(refused.value, LLMRequestError), self._says(
            language_model, "it refuses to score one request, as if it could score another"
        )

    # -- what is kept ---------------------------------------------------------------------------------

    def test_longer_texts_count_more_tokens(self, language_model: LanguageModel) -> None:
        """`count_tokens`, for plans and budgets: whole numbers that grow with the text."""
        counts = [language_model.count_tokens("several words " * times) for times in (0, 1, 20)]
        assert counts[0] <= counts[1] < counts[2], self._says(
            language_model, f"it counts {counts} tokens of no words, 2 and 40"
        )

    def test_it_is_plain_data_with_an_identity(self, language_model: LanguageModel) -> None:
        """What a checkpoint and the ledger keep of it."""
        self.plain_identity(language_model)
        self.plain_data(language_model)

    def test_a_response_is_sent_for_once_and_found_in_the_ledger(
        self, language_model: LanguageModel, tmp_path: Path
    ) -> None:
        """A session sends each request once; the second session sends none."""
        requests = [
            LLMRequest(tuple(_messages(question)), "contract@1", max_tokens=16) for question in QUESTIONS
        ]
        for calls in (len(QUESTIONS), 0):
            with LLMOptions(language_model, ledger=tmp_path / "ledger.sqlite").open() as session:
                responses = session.ask(requests).responses
            failed = next((one.reason for one in responses if isinstance(one, Failure)), "")
            assert not failed, self._says(language_model, f"a request failed: {failed}")
            assert session.usage.calls == calls, self._says(
                language_model, f"{session.usage.calls} requests were sent where {calls} were expected"
            )


class TextEncoderTests(ComponentTests):
    """Subclass it, name a text encoder, and pytest checks the contract.

    Attributes:
        encoder: the encoder under test; override the fixture `text_encoder` where it needs another fixture.
        tolerance: how far two vectors of the same text may differ.
    """

    encoder: ClassVar[TextEncoder]
    tolerance: ClassVar[float] = 1e-5

    @pytest.fixture
    def text_encoder(self) -> TextEncoder:
        """The encoder under test."""
        return type(self).encoder

    def test_vectors_have_the_promised_form(self, text_encoder: TextEncoder) -> None:
        """(texts, dim) float32, finite, of length 1 where `normalized`; no text gives no row."""
        vectors = text_encoder.encode(QUESTIONS)
        assert vectors.shape == (len(QUESTIONS), text_encoder.dim), self._says(
            text_encoder,
            f"{len(QUESTIONS)} texts gave vectors of shape {vectors.shape}; dim is {text_encoder.dim}",
        )
        assert vectors.dtype == np.float32, self._says(
            text_encoder, f"vectors are {vectors.dtype}, not float32"
        )
        assert np.isfinite(vectors).all(), self._says(
            text_encoder, "a vector holds a number that is not finite"
        )
        if text_encoder.normalized:
            lengths = np.linalg.norm(vectors, axis=1)
            assert np.allclose(lengths, 1, atol=1e-3), self._says(
                text_encoder, f"lengths are {lengths}, not 1"
            )
        assert text_encoder.encode([]).shape == (0, text_encoder.dim), self._says(
            text_encoder, "no text is an error"
        )

    def test_a_vector_depends_on_its_own_text_alone(self, text_encoder: TextEncoder) -> None:
        """Alone, in a batch and in another order a text has the same vector; other texts have others."""
        together = text_encoder.encode(QUESTIONS)
        alone = np.concatenate([text_encoder.encode([text]) for text in QUESTIONS])
        turned = text_encoder.encode(QUESTIONS[::-1])[::-1]
        for others in (alone, turned):
            assert np.allclose(together, others, atol=self.tolerance), self._says(
                text_encoder, "the vector of a text depends on its batch"
            )
        assert not np.allclose(together[0], together[1], atol=1e-3), self._says(
            text_encoder, "two texts have one vector"
        )

    def test_it_is_plain_data_with_an_identity(self, text_encoder: TextEncoder) -> None:
        """What a checkpoint and a file of vectors keep of it."""
        self.plain_identity(text_encoder)
        self.plain_data(text_encoder)


def _messages(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]
