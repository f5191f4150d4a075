"""Personalised PageRank of one restart by forward push (Andersen, Chung and Lang, FOCS 2006).

Rank p and residual r begin as 0 and v. Pushing node u moves (1 - damping) r_u into p_u and damping r_u along the
edges of u; without edges, back to v. Then p + (what pushing on for ever would make of r) = PageRank, in any
order of pushes, so all nodes whose residual is above epsilon times their degree are pushed at once.
Only nodes near the restart are visited.
"""

from __future__ import annotations

import torch
from recloom.errors import RecloomError
from torch import Tensor

from ..graphs.graph import Graph


def forward_push(
    graph: Graph, restart: Tensor, damping: float = 0.85, epsilon: float = 1e-6, max_rounds: int = 10_000
) -> Tensor:
    """(N,) ranks for a (N,) restart distribution: at no node above the exact PageRank, and missing little of it.

    What is missing is epsilon times the number of edges in sum at most, and in an undirected graph without weights
    epsilon times the degree at each node; a node without edges counts as one.

    Raises RecloomError for a damping outside [0, 1) or an epsilon not above 0.
    """
    if not 0 <= damping < 1 or not epsilon > 0:
        raise RecloomError(
            f"forward push needs 0 <= damping < 1 and epsilon above 0; found damping {damping}, epsilon {epsilon}"
        )
    crow, col, weights = (
        graph.matrix.crow_indices().long(),
        graph.matrix.col_indices().long(),
        graph.matrix.values(),
    )
    edges, strength = crow.diff(), graph.degree.double()
    allowed = epsilon * edges.clamp(min=1).double()
    start = restart.double()
    rank, residual = torch.zeros_like(start), start.clone()
    for _ in range(max_rounds):
        active = torch.nonzero(residual > allowed)[:, 0]
        if not len(active):
            break
        moved = residual[active]
        rank[active] += (1 - damping) * moved
        residual[active] = 0
        count = edges[active]
        first = torch.repeat_interleave(crow[active] - (count.cumsum(0) - count), count)
        place = first + torch.arange(len(first))  # edges of the active nodes, one node after the other
        flow = (
            torch.repeat_interleave(damping * moved / strength[active].clamp(min=1e-300), count)
            * weights[place]
        )
        residual.index_add_(0, col[place], flow)
        stuck = damping * moved[count == 0].sum()
        if stuck:
            residual += stuck * start
    return rank.float()
