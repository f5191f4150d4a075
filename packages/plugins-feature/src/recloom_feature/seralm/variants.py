"""Several text vectors of each item, and a recommender that reads one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from recloom.errors import RecloomError
from recloom.nn import ItemEmbedding
from recloom.recommender import Recommender
from torch import Tensor


@dataclass(frozen=True)
class Variants:
    """The texts of all items, encoded.

    Attributes:
        vectors: (num_items + 1, K, d) float32, row 0 and absent texts are zero.
        exists: (num_items + 1, K) bool.
    """

    vectors: Tensor
    exists: Tensor

    def pick(self, choice: Tensor) -> Tensor:
        """(num_items + 1, d) the vectors of one text of each item; choice (num_items + 1,) int64."""
        return self.vectors[torch.arange(len(choice), device=choice.device), choice]

    def to(self, device: torch.device) -> Variants:
        return Variants(self.vectors.to(device), self.exists.to(device))


def text_inputs(recommender: Recommender) -> list[ItemEmbedding]:
    """The modules through which a recommender reads item vectors; RecloomError where it has none."""
    found = [m for m in recommender.modules() if isinstance(m, ItemEmbedding) and m.kind != "id"]
    if not found:
        raise RecloomError(
            f"{type(recommender).__name__} reads no item vectors, so texts cannot matter to it. "
            "Set its item_input to id+vector, gated or vector."
        )
    return found


@contextmanager
def reading(recommender: Recommender, vectors: Tensor) -> Iterator[None]:
    """While it lasts the recommender reads these (num_items + 1, d) item vectors instead of its own."""
    inputs = text_inputs(recommender)
    own = [each.vectors for each in inputs]
    if vectors.shape != own[0].shape:
        raise RecloomError(
            f"the sampled vectors are {tuple(vectors.shape)}, those of the recommender {tuple(own[0].shape)}. "
            "Give --data.vectors of the same dataset and encoder."
        )
    try:
        _put(inputs, [vectors] * len(inputs))
        yield
    finally:
        _put(inputs, own)


def _put(inputs: list[ItemEmbedding], vectors: list[Tensor]) -> None:
    for each, value in zip(inputs, vectors, strict=True):
        each.vectors = value
        each.train(each.training)  # forgets the table that was computed from other vectors
