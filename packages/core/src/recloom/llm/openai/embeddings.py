"""Text vectors of a server that speaks OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import RecloomError, at_least
from .. import TextEncoder
from .server import OpenAIServer

if TYPE_CHECKING:
    from .. import Vectors


@dataclass(frozen=True)
class OpenAIEmbeddings(OpenAIServer, TextEncoder):
    """Vectors of length 1 from `/embeddings`; the further options are those of `OpenAIServer`.

    Texts of nothing but blanks are not sent and have vector 0. The server decides how long a text may be and refuses
    (LLMRequestError) or cuts what is longer.

    Args:
        model: its name on the server.
        dimensions: the size to ask for, where the model offers several; None = the model's own.
        batch_size: texts in one request.
    """

    model: str
    dimensions: int | None = None
    batch_size: int = 128

    normalized = True
    max_tokens = None
    without_effect = (*OpenAIServer.without_effect, "batch_size")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise RecloomError("OpenAIEmbeddings needs the name of a model on the server")
        at_least(1, batch_size=self.batch_size, dimensions=self.dimensions)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return (len(texts), dim) float32; raises RecloomError where the server's vectors are not what was asked."""
        filled = [row for row, text in enumerate(texts) if text.strip()]
        starts = range(0, len(filled), self.batch_size)
        batches = [[texts[row] for row in filled[at : at + self.batch_size]] for at in starts]
        with ThreadPoolExecutor(self.concurrency) as threads:
            parts = list(threads.map(self._embedded, batches))  # an error cancels what has not begun
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for at, part in zip(starts, parts, strict=True):
            self._check_width(part)
            vectors[filled[at : at + self.batch_size]] = part
        return vectors

    @cached_property
    def dim(self) -> int:  # type: ignore[override]
        """Size of a vector; asks the server for one where none was seen yet and `dimensions` is not given."""
        return self.dimensions or self._embedded(["a"]).shape[1]

    def _check_width(self, vectors: Vectors) -> None:
        if vectors.shape[1] != self.dim:
            raise RecloomError(
                f"{self.model} at {self.host} gave vectors of {vectors.shape[1]} numbers; expected {self.dim}"
            )

    def _embedded(self, texts: list[str]) -> Vectors:
        """Vectors of one request, in the order of the texts."""
        size = {} if self.dimensions is None else {"dimensions": self.dimensions}
        response = self.post("/embeddings", {"model": self.model, "input": texts} | size)
        vectors = _in_order(response.get("data"), len(texts), f"{self.model} at {self.host}")
        vars(self).setdefault("dim", self.dimensions or vectors.shape[1])  # what `dim` would ask for
        self._check_width(vectors)
        return vectors


def _in_order(data: Any, count: int, who: str) -> Vectors:
    """Unit vectors by their index, whatever the order in which the server lists them."""
    if not isinstance(data, list) or len(data) != count:
        found = len(data) if isinstance(data, list) else "no"
        raise RecloomError(f"{who} gave {found} vectors for {count} texts")
    places = [entry.get("index") if isinstance(entry, dict) else None for entry in data]
    if sorted(place for place in places if isinstance(place, int)) != list(range(count)):
        raise RecloomError(f"{who} numbered its vectors wrongly: expected each of 0 to {count - 1} once")
    rows = [entry.get("embedding") for entry in sorted(data, key=lambda entry: entry["index"])]
    try:
        vectors = np.array(rows, np.float64)
    except (TypeError, ValueError):
        vectors = np.zeros((0, 0))
    if vectors.ndim != 2 or vectors.size == 0:
        raise RecloomError(f"{who} gave vectors that are no lists of numbers of one length")
    if not np.isfinite(vectors).all():
        raise RecloomError(f"{who} gave a vector with a number that is not finite")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.where(length > 0, length, 1)).astype(np.float32)
    return unit
