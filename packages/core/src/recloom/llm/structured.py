"""From responses to checked objects: one JSON object each, checked against a model, asked for once more if wrong.

A response is data. What is taken from it is one JSON object that obeys the model that was asked for, closed lists
included; everything else that it says is ignored or makes it a failure, which is counted and kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from . import Message
from .openai.redaction import without_secrets
from .requests import Failure, LLMRequest, LLMResponse

if TYPE_CHECKING:
    from .client.runner import LLMResult
    from .client.usage import Usage

Wanted = TypeVar("Wanted", bound=BaseModel)
LONGEST = 100_000
"""Characters of a response that are read."""
SHOWN = 2_000
"""Characters of a wrong response that the model is shown again."""


@dataclass(frozen=True)
class Answers(Generic[Wanted]):
    """What came of a list of requests, in their order.

    Attributes:
        found: an object, or a Failure, for each request.
        retried: how many requests needed the second attempt.
        unusable: how many got a last response that is not what was asked for.
        usages: of each round.
        keys: the key in the ledger of the response that each was read from, or that the last attempt would have.
    """

    found: list[Wanted | Failure]
    retried: int
    unusable: int
    usages: list[Usage]
    keys: list[str]

    @property
    def failures(self) -> list[tuple[int, Failure]]:
        """Positions and reasons of what failed."""
        return [(at, one) for at, one in enumerate(self.found) if isinstance(one, Failure)]


def with_schema(request: LLMRequest, kind: type[BaseModel]) -> LLMRequest:
    """The request with the JSON schema of what is wanted."""
    return replace(request, schema=json.dumps(kind.model_json_schema(), sort_keys=True))


def ask_for_objects(
    one_round: Callable[[Sequence[LLMRequest], str], LLMResult],
    requests: Sequence[LLMRequest],
    kind: type[Wanted],
    progress: str = "asking",
    check: Callable[[int, Wanted], str] | None = None,
) -> Answers[Wanted]:
    """Ask, read each response as `kind`, and ask once more where that fails, saying what was wrong.

    Args:
        one_round: sends requests; it takes them and what the progress bar says.
        check: takes the position of a request and its object; says what is wrong with it, "" if nothing.
    """

    def checked(at: int, response: LLMResponse | Failure) -> Wanted | Failure:
        one = parse_response(response, kind)
        if isinstance(one, Failure) or isinstance(response, Failure) or check is None:
            return one
        wrong = check(at, one)
        return Failure(wrong, response.texts) if wrong else one

    asked = [with_schema(request, kind) for request in requests]
    first = one_round(asked, progress)
    found: list[Wanted | Failure] = [checked(at, response) for at, response in enumerate(first.responses)]
    keys, usages, last = list(first.keys), [first.usage], list(first.responses)
    again = [
        at
        for at, (one, response) in enumerate(zip(found, first.responses, strict=True))
        if isinstance(one, Failure) and isinstance(response, LLMResponse)
    ]
    if again:
        second = one_round([corrected(asked[at], found[at]) for at in again], f"{progress} again")
        usages.append(second.usage)
        for at, response, key in zip(again, second.responses, second.keys, strict=True):
            found[at], keys[at], last[at] = checked(at, response), key, response
    read = {*range(len(found))} - {at for at, one in enumerate(last) if isinstance(one, Failure)}
    unusable = sum(isinstance(found[at], Failure) for at in read)
    return Answers(found, len(again), unusable, usages, keys)


def corrected(request: LLMRequest, failure: Any) -> LLMRequest:
    """The same request after a wrong response, which is shown with what was wrong with it."""
    said: Message = {"role": "assistant", "content": "".join(failure.texts[:1])[:SHOWN] or "(nothing)"}
    asked: Message = {
        "role": "user",
        "content": f"That answer cannot be used: {failure.reason}. "
        "Answer again with one JSON object of the form that was asked for, and nothing else.",
    }
    return replace(request, messages=(*request.messages, said, asked))


def parse_response(response: LLMResponse | Failure, kind: type[Wanted]) -> Wanted | Failure:
    """The one JSON object of a response as `kind`, or a Failure that says what is wrong."""
    if isinstance(response, Failure):
        return response
    text = response.texts[0] if response.texts else ""
    ended = " (it ended at max_tokens)" if response.cut else ""
    try:
        return kind.model_validate(parse_object(text))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'the object'}: {e['msg']}" for e in error.errors()[:3]]
        return Failure("; ".join(faults) + ended, response.texts)
    except ValueError as error:
        return Failure(f"{error}{ended}", response.texts)


def parse_object(text: str) -> dict[str, Any]:
    """The one JSON object in a text, which may have words or a fence around it.

    Raises ValueError where there is none, more than one, a key twice, a number that is not finite, or an end
    before the object's.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text):,} characters, more than {LONGEST:,}")
    start = text.find("{")
    if start < 0:
        raise ValueError("it holds no JSON object")
    try:
        found, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ValueError(f"its JSON cannot be read: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if any(_objects(text, end)):
        raise ValueError("it holds more than one JSON object")
    return dict(found)


def failure_lines(rows: Sequence[tuple[str, Failure]]) -> str:
    """What failed, one JSON line each: of what, why, and what the model said, without secrets."""
    lines = (
        {"of": of, "reason": failure.reason, "texts": [without_secrets(text) for text in failure.texts]}
        for of, failure in rows
    )
    return "".join(f"{json.dumps(line, ensure_ascii=True)}\n" for line in lines)


def _objects(text: str, start: int) -> Iterator[Any]:
    while (start := text.find("{", start)) >= 0:
        try:
            found, start = _DECODER.raw_decode(text, start)
            yield found
        except (ValueError, RecursionError):
            start += 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its JSON has a key twice")
    return found


def _not_finite(name: str) -> Any:
    raise ValueError(f"its JSON holds {name}, which is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_not_finite)
