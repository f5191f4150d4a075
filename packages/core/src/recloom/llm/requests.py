"""Requests to a language model and responses, as data; the key by which a response is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import Message


@dataclass(frozen=True)
class LLMRequest:
    """Messages and how they are to be answered.

    Attributes:
        messages: as `PromptTemplate.render` gives them.
        prompt: name and version of the template, `name@version`; part of the key.
        n, temperature, max_tokens, seed: as in `LanguageModel.generate`.
        schema: JSON schema of the wanted object, as JSON text; None = free text.
        options: with options the request is to score them, not to answer freely.
    """

    messages: tuple[Message, ...]
    prompt: str = ""
    n: int = 1
    temperature: float = 0.0
    max_tokens: int = 256
    seed: int = 0
    schema: str | None = None
    options: tuple[str, ...] | None = None

    @property
    def settings(self) -> tuple[Any, ...]:
        """What requests must share to be answered in one batch."""
        return (self.options is None, self.n, self.temperature, self.max_tokens, self.seed, self.schema)

    def as_data(self) -> dict[str, Any]:
        """Plain data; what has its default and does not matter for this kind of request is left out."""
        data: dict[str, Any] = {"messages": list(self.messages), "prompt": self.prompt}
        if self.options is not None:
            return data | {"options": list(self.options)}
        data |= {
            "n": self.n,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        return data | ({"schema": json.loads(self.schema)} if self.schema else {})

    def key(self, identity: Mapping[str, Any]) -> str:
        """sha256 of the model's identity and the request: equal keys have equal answers."""
        text = json.dumps([dict(identity), self.as_data()], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class LLMResponse:
    """An answer.

    Attributes:
        texts: the n answers, none for a request with options.
        scores: the log-probability of each option, none for a request without options.
        prompt_tokens, completion_tokens: what it cost when it was sent.
        cached: whether it came from the ledger.
        cut: how many of the answers ended at max_tokens, where the backend knew.
        estimated: whether the tokens are an estimate; the ledger does not keep it.
    """

    texts: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False
    cut: int = 0
    estimated: bool = False


@dataclass(frozen=True)
class Failure:
    """A request without a usable answer.

    Attributes:
        reason: in words, for the report.
        texts: what the model said, where it said something.
    """

    reason: str
    texts: tuple[str, ...] = ()
