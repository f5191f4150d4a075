"""What a language model and a text encoder are to Recloom.

Both are components of a recommender's configuration: write them as frozen dataclasses whose fields are plain
values, so that a checkpoint can hold `{"class_path": ..., "init_args": {...}}` and build them again. Load
weights on first use, not in the constructor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from ..errors import RecloomError

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]


class TextEncoder:
    """Turns texts into vectors."""

    dim: int
    """Size of a vector."""
    normalized: bool
    """Whether vectors have length 1 (or 0, where a text holds nothing to encode)."""
    max_tokens: int | None
    """How much of a text is read, in tokens of the encoder; None = all of it."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return (len(texts), dim) float32 vectors, each a function of its own text alone."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(texts)")


class Message(TypedDict):
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Generation:
    """What a language model answered, and what it cost.

    Attributes:
        texts: the n answers.
        prompt_tokens, completion_tokens: over all n answers; 0 where they came from a cache.
    """

    texts: list[str]
    prompt_tokens: int
    completion_tokens: int


class LanguageModel:
    """Answers messages, and where the backend can, scores given answers."""

    def generate(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float = 0.0,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> Generation:
        """Return n answers; temperature 0 is greedy."""
        raise NotImplementedError(f"{type(self).__name__} must define generate(messages)")

    def score(self, prompt: Sequence[Message], options: Sequence[str]) -> list[float]:
        """Return the log-probability of each option as the answer to the prompt.

        Raises RecloomError where the backend cannot: text is never parsed in place of a probability.
        """
        raise RecloomError(
            f"{type(self).__name__} cannot score answers: it gives texts, no probabilities. "
            "Use a language model that runs locally, or a server that returns log-probabilities."
        )


def core_language_models() -> list[type[LanguageModel] | type[TextEncoder]]:
    """What core itself registers."""
    from .hashing import HashingNgrams

    return [HashingNgrams]
