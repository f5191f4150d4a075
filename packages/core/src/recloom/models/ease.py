"""EASE: a linear item-to-item model in closed form, strong on dense data.

B = I - P diag(1 / diag P) with P = (X^T X + lambda I)^-1 and a diagonal of 0, so that no item recommends
itself. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", 2019.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..batch import Batch
from ..data.catalog import Catalog
from ..data.interactions import Interactions
from ..errors import RecloomError
from ..recommender import Recommender, multi_hot
from .cooccurrence import cooccurrence_counts

GB = 10**9


class EASE(Recommender):
    """The items of the history, each once, times the (num_items + 1)^2 weights of the closed form.

    Args:
        catalog: the items.
        regularization: lambda, added to the diagonal of X^T X.
        max_items: a larger catalogue is refused, because memory grows with its square.
    """

    demo: ClassVar[dict[str, Any] | None] = {}

    weights: Tensor  # (V + 1, V + 1), row and column 0 are 0

    def __init__(self, catalog: Catalog, regularization: float = 500.0, max_items: int = 20_000) -> None:
        super().__init__(catalog)
        if not regularization > 0:
            raise RecloomError(f"EASE needs regularization > 0, found {regularization}")
        if self.num_items > max_items:
            fit, keep = memory(self.num_items)
            raise RecloomError(
                f"EASE would need {fit / GB:.1f} GB to fit {self.num_items:,} items and {keep / GB:.1f} GB "
                f"to serve them; max_items is {max_items:,}. Raise max_items if you have the memory, filter "
                "rare items (--data.split.min_item), or use ItemKNN."
            )
        self.regularization = regularization
        self.register_buffer("weights", torch.empty(0, 0))

    @property
    def tells_cold_items(self) -> bool:
        return False

    def fit(self, interactions: Interactions) -> None:
        size = self.num_items + 1
        gram = torch.zeros(size, size, dtype=torch.float64)  # float32 loses digits in the inverse
        for block, shared in cooccurrence_counts(interactions):
            gram[block] = torch.from_numpy(shared.toarray())
        self.weights = closed_form(gram, self.regularization)

    def score(self, batch: Batch) -> Tensor:
        scores = multi_hot(batch.history, self.num_items) @ self.weights  # (B, V + 1)
        return scores.gather(1, batch.candidates.expand(batch.history.shape[0], -1))


def closed_form(gram: Tensor, regularization: float) -> Tensor:
    """(V, V) float64 X^T X to the (V, V) float32 weights; `gram` is overwritten."""
    gram.diagonal().add_(regularization)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram, out=gram))
    inverse /= -inverse.diagonal().clone()
    inverse.fill_diagonal_(0)
    return inverse.float()


def memory(num_items: int) -> tuple[int, int]:
    """Bytes at the peak of `fit` (two matrices in float64 and one in float32), and of the weights kept."""
    return 20 * num_items**2, 4 * num_items**2
