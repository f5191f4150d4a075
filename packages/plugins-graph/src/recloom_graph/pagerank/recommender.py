"""Personalised PageRank on the user-item graph as a recommender."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from recloom.batch import Batch
from recloom.data import Catalog, Interactions
from recloom.errors import RecloomError
from recloom.recommender import ExportSpec, Recommender, multi_hot
from torch import Tensor

from ..graphs.dataset_graphs import bipartite
from ..graphs.sparse import StoredMatrix, halves, product
from .conjugate_gradients import fixed_point
from .ranks import BLOCK, check_damping, inverse_degrees

MAX_ROUNDS = 500  # of two steps each


class PersonalizedPageRank(Recommender):
    """Ranks items by a walk on the user-item graph that restarts on the items of the history.

    Needs no training. Items of the history without an edge in the training data are ignored; where none is
    left, the walk restarts on any item, which ranks close to popularity.

    Args:
        catalog: items and users.
        damping: chance to walk on; smaller stays closer to the history.
        tolerance: stop when one more step would change a walk by less than (number of nodes) * tolerance in L1; 1e-6
            is faster and still gives nearly the same lists, 1e-10 is exact for float32.
    """

    demo: ClassVar[dict[str, Any] | None] = {}

    def __init__(self, catalog: Catalog, damping: float = 0.85, tolerance: float = 1e-7) -> None:
        super().__init__(catalog)
        check_damping(damping, tolerance)
        self.damping, self.tolerance = damping, tolerance
        self.graph = StoredMatrix()

    @property
    def tells_cold_items(self) -> bool:
        return False

    def fit(self, interactions: Interactions) -> None:
        self.graph.store(bipartite(interactions).transition)

    def score(self, batch: Batch) -> Tensor:
        ranks = self.ranks(batch.history)
        if batch.candidates.shape[0] == 1:
            return ranks[:, batch.candidates[0]]
        return ranks.gather(1, batch.candidates)

    def ranks(self, history: Tensor) -> Tensor:
        """(B, L) histories to (B, num_items + 1) probabilities of the item nodes."""
        known = (self.graph.degree()[self.num_users + 1 :] > 0).float()  # (num_items + 1,)
        start = multi_hot(history, self.num_items) * known
        start = torch.where(start.any(1, keepdim=True), start, known)
        start = start / start.sum(1, keepdim=True).clamp(min=1)
        to_users, to_items = halves(self.graph.matrix(), self.num_users + 1)
        blocks = [self._walk(to_users, to_items, rows.T.contiguous()).T for rows in torch.split(start, BLOCK)]
        return torch.cat(blocks)

    def _walk(self, to_users: Tensor, to_items: Tensor, restart: Tensor) -> Tensor:
        """The item rows of `personalised_pagerank`, (num_items + 1, B), in half the products.

        A walk over two kinds of nodes that restarts on one kind alternates between them. So two steps need
        one product with each half of the matrix, and no mass is ever stuck.
        """

        def steps(items: Tensor) -> Tensor:
            return product(to_items, product(to_users, items)).mul_(self.damping**2)

        degree = self.graph.degree()[self.num_users + 1 :]
        allowed = (self.num_users + self.num_items + 2) * self.tolerance
        return fixed_point(steps, (1 - self.damping) * restart, inverse_degrees(degree), allowed, MAX_ROUNDS)

    def export(self) -> ExportSpec:
        raise RecloomError(
            "PersonalizedPageRank walks over a sparse graph, for which ONNX has no operator, and as a dense "
            "item-item matrix it would grow with the square of the catalogue. Write its lists with "
            "`recloom recommend`, or export another recommender."
        )
