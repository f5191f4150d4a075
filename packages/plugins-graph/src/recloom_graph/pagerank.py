"""PageRank (Page et al., 1999) and personalised PageRank (Haveliwala, 2002) on sparse graphs.

    r_j = damping * (sum over edges i -> j of r_i / d_i) + (1 - damping) * v_j

v is where a walker restarts: anywhere (PageRank) or on chosen nodes (personalised). A walker on a node
without outgoing edges restarts too, so r always sums to 1.
"""

from __future__ import annotations

import math

import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.recommender import ExportSpec, Recommender, multi_hot
from torch import Tensor

from .dataset_graphs import bipartite
from .graph import Graph
from .sparse import StoredMatrix, halves

BLOCK = 64  # walks at once: a (nodes, BLOCK) float32 state stays near the cache


def pagerank(
    graph: Graph,
    restart: Tensor | None = None,
    damping: float = 0.85,
    tolerance: float = 1e-6,
    max_steps: int = 1000,
) -> Tensor:
    """PageRank of a graph, by the weights of its edges.

    Args:
        restart: (N,) distribution v, or (N, B) for several at once; None = uniform.
        damping, tolerance, max_steps: as in `personalised_pagerank`.

    Returns:
        Of the shape of `restart`; (N,) for None. Every distribution sums to 1.
    """
    if restart is None:
        restart = torch.full((graph.num_nodes,), 1 / max(1, graph.num_nodes))
    columns = restart[:, None] if restart.dim() == 1 else restart
    ranks = personalised_pagerank(graph.transition, columns, damping, tolerance, max_steps)
    return ranks.reshape(restart.shape)


def personalised_pagerank(
    walk: Tensor, restart: Tensor, damping: float = 0.85, tolerance: float = 1e-6, max_steps: int = 1000
) -> Tensor:
    """Power iteration for many restart distributions at once.

    Args:
        walk: (N, N) CSR matrix from `transition`; entry (j, i) is the chance of a step from i to j.
        restart: (N, B) distributions v, each column sums to 1.
        damping: chance to walk on rather than restart, from 0 (stays at v) to below 1.
        tolerance: stop when every column changed by less than N * tolerance in L1.
        max_steps: stop here in any case; the L1 error is at most 2 * damping ** steps.

    Returns:
        (N, B) distributions, each column sums to 1.
    """
    _check(damping)
    rank = restart
    for _ in range(max_steps):
        moved = damping * (walk @ rank)
        new = torch.addcmul(moved, 1 - moved.sum(0), restart)  # what did not move on restarts
        change = (new - rank).abs().sum(0).max()
        rank = new
        if change < len(restart) * tolerance:
            break
    return rank


class PersonalizedPageRank(Recommender):
    """Ranks items by a walk on the user-item graph that restarts on the items of the history.

    Needs no training. Items of the history without an edge in the training data are ignored; where none is
    left, the walk restarts on any item, which ranks close to popularity.

    Args:
        catalog: items and users.
        damping: chance to walk on; smaller stays closer to the history.
        tolerance: stop when a walk changes by less than (number of nodes) * tolerance.
    """

    def __init__(self, catalog: Catalog, damping: float = 0.85, tolerance: float = 1e-7) -> None:
        super().__init__(catalog)
        _check(damping)
        self.damping, self.tolerance = damping, tolerance
        self.graph = StoredMatrix()

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
        one product with each half of the matrix, no mass is ever stuck, and step t changes exactly
        2 * damping ** t in L1: when to stop is known beforehand.
        """
        rank = restart
        for _ in range(self._rounds()):
            users = to_users @ rank
            rank = torch.addmm(restart, to_items, users, beta=1 - self.damping, alpha=self.damping**2)
        return rank

    def _rounds(self) -> int:
        """Pairs of steps until the change is below (number of nodes) * tolerance."""
        allowed = (self.num_users + self.num_items + 2) * self.tolerance / 2
        if self.damping == 0 or allowed >= 1:
            return 1
        return math.ceil(math.log(allowed) / math.log(self.damping) / 2)

    def export(self) -> ExportSpec:
        raise RecloomError(
            "PersonalizedPageRank walks over a sparse graph, for which ONNX has no operator, and as a dense "
            "item-item matrix it would grow with the square of the catalogue. Write its lists with "
            "`recloom recommend`, or export another recommender."
        )


def _check(damping: float) -> None:
    if not 0 <= damping < 1:
        raise RecloomError(
            f"damping must be at least 0 and below 1, or a walk may never settle; found {damping}"
        )
