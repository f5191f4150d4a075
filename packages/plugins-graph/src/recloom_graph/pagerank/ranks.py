"""PageRank (Page et al., 1999) and personalised PageRank (Haveliwala, 2002) on sparse graphs.

    r_j = damping * (sum over edges i -> j of r_i / d_i) + (1 - damping) * v_j

v is where a walker restarts: anywhere (PageRank) or on chosen nodes (personalised). A walker on a node
without outgoing edges restarts too, so r always sums to 1.
"""

from __future__ import annotations

import torch
from recloom.errors import RecloomError
from torch import Tensor

from ..graphs.graph import Graph
from ..graphs.sparse import product, with_values
from .conjugate_gradients import fixed_point, not_converged

BLOCK = 64  # walks at once: a (nodes, BLOCK) float32 state stays near the cache
MAX_STEPS = 100_000
ROUNDING = 1e-14  # changes in L1 below this are those of float64


def pagerank(
    graph: Graph,
    restart: Tensor | None = None,
    damping: float = 0.85,
    tolerance: float = 1e-6,
    max_steps: int = MAX_STEPS,
) -> Tensor:
    """PageRank of a graph, by the weights of its edges: by conjugate gradients where it is undirected.

    Args:
        restart: (N,) distribution v, or (N, B) for several at once, each up to a factor; None = uniform.
        damping: as in `personalised_pagerank`.
        tolerance: stop each distribution when one more step would change it by less than N * tolerance in L1. The
            lists at the top are right long before all of the ranks are: where these are all that is asked for, a
            looser one saves half of the time (figures in benchmarks/graph_speed.json).
        max_steps: products with the matrix, at most.

    Returns:
        Of the shape of `restart`; (N,) for None. Every distribution sums to 1.

    Raises RecloomError for a restart that is no distribution, and where the steps were too few.
    """
    check_damping(damping, tolerance)
    if restart is None:
        restart = torch.ones(graph.num_nodes)
    ranks = _directed if graph.directed else _undirected
    columns = _distributions(restart, graph.num_nodes)
    blocks = [
        ranks(graph, block.contiguous(), damping, tolerance, max_steps)
        for block in torch.split(columns, BLOCK, dim=1)
    ]
    return torch.cat(blocks, dim=1).reshape(restart.shape)


def personalised_pagerank(
    walk: Tensor, restart: Tensor, damping: float = 0.85, tolerance: float = 1e-6, max_steps: int = MAX_STEPS
) -> Tensor:
    """Power iteration for many restart distributions at once, in float64.

    Args:
        walk: (N, N) CSR matrix from `transition`; entry (j, i) is the chance of a step from i to j.
        restart: (N, B) distributions v, each column sums to 1.
        damping: chance to walk on rather than restart, from 0 (stays at v) to below 1.
        tolerance: stop when every column changed by less than N * tolerance, or the rounding of float64, in L1.
        max_steps: after t of them the L1 error is at most 2 * damping ** t.

    Returns:
        (N, B) distributions, each column sums to 1.

    Raises RecloomError where the steps were too few.
    """
    check_damping(damping, tolerance)
    matrix, start = with_values(walk, walk.values().double()), restart.double()
    rank, allowed = start, max(ROUNDING, len(restart) * tolerance)
    for _ in range(max_steps):
        moved = damping * product(matrix, rank)
        new = torch.addcmul(moved, 1 - moved.sum(0), start)  # what did not move on restarts
        change = (new - rank).abs().sum(0)
        rank = new
        if (change < allowed).all():
            return rank.to(restart.dtype)
    raise not_converged(max_steps)


def _directed(graph: Graph, restart: Tensor, damping: float, tolerance: float, max_steps: int) -> Tensor:
    return personalised_pagerank(graph.transition, restart, damping, tolerance, max_steps)


def _undirected(graph: Graph, restart: Tensor, damping: float, tolerance: float, max_steps: int) -> Tensor:
    """As `personalised_pagerank`, in fewer products.

    Mass that is stuck on nodes without edges would restart as v does. So without it r is right up to a factor.
    """

    def step(x: Tensor) -> Tensor:
        return product(graph.transition, x).mul_(damping)

    start, allowed = (1 - damping) * restart, graph.num_nodes * tolerance
    ranks = fixed_point(step, start, inverse_degrees(graph.degree), allowed, max_steps)
    return ranks / ranks.sum(0)


def inverse_degrees(degree: Tensor) -> Tensor:
    """1 / degree, and 1 for a node without edges."""
    return torch.where(degree > 0, degree, 1).float().reciprocal()


def _distributions(restart: Tensor, num_nodes: int) -> Tensor:
    """(N,) or (N, B) weights to (N, B) float32 distributions; RecloomError where they cannot be made one."""
    columns = restart[:, None] if restart.dim() == 1 else restart
    if columns.dim() != 2 or len(columns) != num_nodes:
        raise RecloomError(
            f"restart must be ({num_nodes},) or ({num_nodes}, B), a value for each node; found {tuple(restart.shape)}"
        )
    columns = columns.double()
    sums = columns.sum(0)
    if not bool(((columns >= 0) & columns.isfinite()).all() and ((sums > 0) & sums.isfinite()).all()):
        raise RecloomError(
            "restart must hold finite values of at least 0, and one above 0 in every column; found others"
            if num_nodes
            else "a graph without nodes has no ranks; add edges"
        )
    return (columns / sums).float()


def check_damping(damping: float, tolerance: float) -> None:
    if not 0 <= damping < 1:
        raise RecloomError(
            f"damping must be at least 0 and below 1, or a walk may never settle; found {damping}"
        )
    if not 0 < tolerance < float("inf"):
        raise RecloomError(f"tolerance must be above 0 and finite; found {tolerance}")
