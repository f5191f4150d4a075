"""One batch of questions to a backend, and what it returned as replies or failures, one for each question."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import QuestionError, RecloomError
from . import Generation, Scores
from .question import Failure, Question, Reply
from .reply_lines import dumps
from .secrecy import refuse_secrets, without_secrets

if TYPE_CHECKING:
    from . import LanguageModel


def answer_batch(model: LanguageModel, questions: list[Question]) -> list[Reply | Failure]:
    """Ask what may be asked: a question that holds a secret fails before it goes out."""
    refused = {at: failure for at, question in enumerate(questions) if (failure := _refusal(question))}
    sent = [question for at, question in enumerate(questions) if at not in refused]
    found = iter(_ask_batch(model, sent) if sent else [])
    return [refused.get(at) or next(found) for at in range(len(questions))]


def _refusal(question: Question) -> Failure | None:
    if question.options == ():
        return Failure("a question with options needs at least one; found none")
    try:
        refuse_secrets("the question", dumps(question.as_data()))
    except QuestionError as error:
        return Failure(str(error))
    return None


def _ask_batch(model: LanguageModel, questions: list[Question]) -> list[Reply | Failure]:
    messages, one = [question.messages for question in questions], questions[0]
    found: Sequence[Generation | Scores | QuestionError]
    if one.options is not None:
        found = model.score_batch(messages, [question.options or () for question in questions])
    else:
        found = model.generate_batch(
            messages, n=one.n, temperature=one.temperature, max_tokens=one.max_tokens, seed=one.seed,
            schema=json.loads(one.schema) if one.schema else None,
        )  # fmt: skip
    if len(found) != len(questions):
        raise RecloomError(f"{type(model).__name__} gave {len(found)} replies to {len(questions)} questions")
    return [as_reply(question, answer) for question, answer in zip(questions, found, strict=True)]


def as_reply(question: Question, answer: Generation | Scores | QuestionError) -> Reply | Failure:
    """What a backend returned as a reply; a Failure where it is an error or not what the question asked for."""
    if isinstance(answer, QuestionError):
        return Failure(without_secrets(str(answer)))
    if isinstance(answer, Generation):
        if len(answer.texts) != question.n:
            return Failure(f"{len(answer.texts)} answers came of {question.n}", tuple(answer.texts))
        return Reply(
            tuple(answer.texts), (), answer.prompt_tokens, answer.completion_tokens, False, answer.cut,
            answer.estimated,
        )  # fmt: skip
    scores = answer.log_probs
    if len(scores) != len(question.options or ()) or any(math.isnan(score) for score in scores):
        return Failure(f"the scores {scores[:8]} are not one number for each option")
    return Reply(
        (), tuple(scores), answer.prompt_tokens, answer.completion_tokens, estimated=answer.estimated
    )
