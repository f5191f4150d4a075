"""ItemKNN: item neighbours by cosine over users, summed over the history.

s(i, j) = n_ij / (sqrt(n_i n_j) + shrink), with n_ij the users of both items; Deshpande and Karypis 2004,
with the shrinkage of Bell and Koren 2007 against similarities that rest on few users.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from ..batch import Batch
from ..data.catalog import Catalog
from ..data.interactions import Interactions
from ..errors import RecloomError
from ..recommender import Recommender
from .cooccurrence import cooccurrence_counts

CHUNK = 1 << 23
"""Numbers held at once while scoring."""


class ItemKNN(Recommender):
    """Sum of the similarities between a candidate and the items of the history; a repeated item counts again.

    Args:
        catalog: the items.
        neighbours: how many most similar items are kept of each item.
        shrink: added to the denominator of the cosine; 0 is the plain cosine.
    """

    demo: ClassVar[dict[str, Any] | None] = {}

    neighbour: Tensor  # (V + 1, K) int64, 0 where there is none
    weight: Tensor  # (V + 1, K)

    def __init__(self, catalog: Catalog, neighbours: int = 100, shrink: float = 10.0) -> None:
        super().__init__(catalog)
        if neighbours < 1 or shrink < 0:
            raise RecloomError(
                f"ItemKNN needs neighbours >= 1 and shrink >= 0, found neighbours={neighbours}, "
                f"shrink={shrink}"
            )
        self.neighbours, self.shrink = min(neighbours, self.num_items), shrink
        shape = (self.num_items + 1, self.neighbours)
        self.register_buffer("neighbour", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("weight", torch.zeros(shape))

    @property
    def tells_cold_items(self) -> bool:
        return False

    def fit(self, interactions: Interactions) -> None:
        self.neighbour.zero_()
        self.weight.zero_()
        users, items = interactions.pairs()
        pairs = torch.unique(users * (self.num_items + 1) + items)
        counts = torch.bincount(pairs % (self.num_items + 1), minlength=self.num_items + 1).double().numpy()
        for block, shared in cooccurrence_counts(interactions):
            row, column, value = similarities(shared, counts, block.start, self.shrink)
            row, column, value, rank = best(row, column, value, self.neighbours)
            place = torch.from_numpy(row + block.start), torch.from_numpy(rank)
            self.neighbour[place] = torch.from_numpy(column).long()
            self.weight[place] = torch.from_numpy(value)

    def score(self, batch: Batch) -> Tensor:
        if torch.compiler.is_exporting():
            return self._score(batch)
        row = self.num_items + 1 + batch.history.shape[1] * self.neighbours
        rows = max(1, CHUNK // row)
        chunks = [self._score(batch.rows(slice(i, i + rows))) for i in range(0, len(batch), rows)]
        return torch.cat(chunks) if chunks else self._score(batch)

    def _score(self, batch: Batch) -> Tensor:
        rows = batch.history.shape[0]  # len(batch) would freeze it in an exported graph
        columns = self.neighbour[batch.history].flatten(1)  # (B, L * K)
        weights = self.weight[batch.history].flatten(1)
        scores = weights.new_zeros(rows, self.num_items + 1).scatter_add(1, columns, weights)
        return scores.gather(1, batch.candidates.expand(rows, -1))


Columns = np.ndarray[tuple[int], np.dtype[np.int32]]
Values = np.ndarray[tuple[int], np.dtype[np.float32]]


def similarities(
    shared: csr_matrix, counts: np.ndarray[tuple[int], np.dtype[np.float64]], start: int, shrink: float
) -> tuple[Columns, Columns, Values]:
    """Row, column and similarity of every pair of different items in a block whose first row is `start`."""
    shared.sort_indices()
    pairs = shared.tocoo()
    apart = pairs.row + start != pairs.col
    row, column = pairs.row[apart], pairs.col[apart]
    together = pairs.data[apart]
    value = together / (np.sqrt(counts[row + start] * counts[column]) + shrink)
    return row, column, value.astype(np.float32)


def best(
    row: Columns, column: Columns, value: Values, k: int
) -> tuple[Columns, Columns, Values, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The k largest (positive) values of each row, with their rank from 0; of equals the first given wins."""
    descending = (row.astype(np.int64) << 32) - value.view(np.int32)  # positive floats order as their bits do
    order = np.argsort(descending, kind="stable")
    row = row[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    keep = rank < k
    order = order[keep]
    return row[keep], column[order], value[order], rank[keep]
