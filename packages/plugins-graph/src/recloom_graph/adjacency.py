"""The user-item graph as a sparse matrix, its two scalings, and products with it.

Nodes: user u is node u, item i is node num_users + 1 + i. Index 0 of users (unknown) and of items
(padding) are nodes without edges, so tables of all users and all items stand one upon the other.
"""

from __future__ import annotations

import warnings

import torch
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


def csr(rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """A (size, size) CSR matrix with float32 1 at the (E,) places; a place named twice counts once."""
    places = torch.unique(rows.long() * size + columns.long())  # sorted by row, then column
    counts = torch.bincount(places // size, minlength=size)
    crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return _sparse(crow.int(), (places % size).int(), torch.ones(places.numel()))


def bipartite(interactions: Interactions) -> Tensor:
    """The symmetric 0/1 adjacency of users and items, CSR with num_users + num_items + 2 rows."""
    users, items = interactions.pairs()
    items = items + interactions.num_users + 1
    size = interactions.num_users + interactions.num_items + 2
    return csr(torch.cat([users, items]), torch.cat([items, users]), size)


def symmetric(adjacency: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 of a symmetric 0/1 CSR matrix; its spectral radius is 1 where there is an edge."""
    degree = adjacency.crow_indices().diff()
    scale = degree.clamp(min=1).float().rsqrt()  # a node without edges has no entry that could be scaled
    rows = torch.repeat_interleave(scale, degree)
    return _with_values(adjacency, rows * scale[adjacency.col_indices().long()])


def transition(adjacency: Tensor) -> Tensor:
    """A D^-1 of a 0/1 CSR matrix whose entry (j, i) is the edge i to j: every column sums to 1, or to 0."""
    columns = adjacency.col_indices().long()
    degree = torch.bincount(columns, minlength=adjacency.shape[1])
    return _with_values(adjacency, 1 / degree[columns].float())


def halves(matrix: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The blocks [:first, first:] and [first:, :first] of a matrix whose other two blocks are empty."""
    crow, col, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    edges, others = col.numel() // 2, matrix.shape[0] - first
    upper = _sparse(crow[: first + 1], col[:edges] - first, values[:edges], others)
    lower = _sparse(crow[first:] - edges, col[edges:], values[edges:], first)
    return upper, lower


class LayerMean(torch.autograd.Function):
    """(1/(K+1)) (x + A x + ... + A^K x) for a symmetric A: its transpose is itself, so backward is forward.

    Computed as x + A (x + A (x + ...)), which needs K products and keeps no layer.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, adjacency: Tensor, x: Tensor, layers: int) -> Tensor:
        ctx.adjacency, ctx.layers = adjacency, layers  # type: ignore[attr-defined]
        total = x
        for _ in range(layers):
            total = torch.addmm(x, adjacency, total)
        return total / (layers + 1)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[None, Tensor, None]:
        return None, propagate(ctx.adjacency, grads[0], ctx.layers), None  # type: ignore[attr-defined]


def propagate(adjacency: Tensor, x: Tensor, layers: int) -> Tensor:
    """Mean of the layers 0 to `layers` of x (N, d) under a symmetric CSR matrix (N, N): (N, d).

    Autograd of a CSR product builds the transpose at every step, several times slower than this.
    """
    with torch.autocast(x.device.type, enabled=False):  # there is no bfloat16 CSR product on the CPU
        mean: Tensor = LayerMean.apply(adjacency, x.contiguous(), layers)  # type: ignore[no-untyped-call]
    return mean


class Graph(nn.Module):
    """A square CSR matrix in buffers, so that a checkpoint restores it; empty until `store`."""

    crow: Tensor
    col: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("crow", torch.zeros(1, dtype=torch.int32))
        self.register_buffer("col", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("values", torch.zeros(0))
        self.register_load_state_dict_post_hook(_checked)  # type: ignore[no-untyped-call]

    def store(self, matrix: Tensor) -> None:
        """Keep this CSR matrix."""
        self.crow, self.col, self.values = matrix.crow_indices(), matrix.col_indices(), matrix.values()

    def grow(self, nodes: int) -> None:
        """Append so many nodes without edges."""
        self.crow = torch.cat([self.crow, self.crow[-1:].expand(nodes)])

    def matrix(self) -> Tensor:
        """The CSR matrix, sharing memory with the buffers. Raises RecloomError while there is none."""
        if self.crow.numel() == 1:
            raise RecloomError(
                "the recommender has no graph yet. Call fit(interactions) before scores are asked for, "
                "or load a checkpoint that was written after fit."
            )
        return _sparse(self.crow, self.col, self.values)

    def degree(self) -> Tensor:
        """(N,) number of stored entries in each row."""
        return self.crow.diff()


def _checked(graph: Graph, _: object) -> None:
    """Sparse kernels read where the indices say, so indices from a file are checked once."""
    crow, col, values = graph.crow, graph.col, graph.values
    if crow.numel() == 1:  # saved before fit
        return
    try:
        _sparse(crow, col, values, check=True)
    except RuntimeError as error:
        raise RecloomError(
            f"the graph in the checkpoint is damaged ({error}). Train again, or take another checkpoint."
        ) from error


def _sparse(
    crow: Tensor, col: Tensor, values: Tensor, columns: int | None = None, check: bool = False
) -> Tensor:
    """The CSR matrix of these parts, square unless `columns` says otherwise."""
    rows = crow.numel() - 1
    with warnings.catch_warnings():  # torch announces once that CSR is in beta
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(crow, col, values, (rows, columns or rows), check_invariants=check)


def _with_values(matrix: Tensor, values: Tensor) -> Tensor:
    return _sparse(matrix.crow_indices(), matrix.col_indices(), values)
