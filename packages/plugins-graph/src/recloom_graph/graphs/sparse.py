"""Square sparse matrices as compressed rows, their two scalings, and a module that keeps one in a checkpoint."""

from __future__ import annotations

import warnings

import torch
from recloom.errors import RecloomError
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

WIDE = 32
"""From so many columns on, a sum over bags of rows is faster on a CPU than the CSR product."""


def csr(rows: Tensor, columns: Tensor, size: int, weights: Tensor | None = None) -> Tensor:
    """A (size, size) float32 CSR matrix; a place named twice is the sum of its (E,) weights, or 1 without weights."""
    keys = rows.long() * size + columns.long()
    if weights is None:
        places = torch.unique(keys)  # sorted by row, then column
        values = torch.ones(places.numel())
    else:
        places, inverse = torch.unique(keys, return_inverse=True)
        values = torch.bincount(inverse, weights.double(), minlength=places.numel()).float()
    counts = torch.bincount(places // size, minlength=size)
    crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return built(crow.int(), (places % size).int(), values)


def mirrored(matrix: Tensor) -> Tensor:
    """The symmetric matrix of which an upper triangular one is given."""
    rows, columns, values = entries(matrix)
    other = rows != columns
    return csr(
        torch.cat([rows, columns[other]]),
        torch.cat([columns, rows[other]]),
        matrix.shape[0],
        torch.cat([values, values[other]]),
    )


def entries(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(E,) int64 rows, (E,) int64 columns and (E,) values of a CSR matrix, by row and column."""
    rows = torch.repeat_interleave(torch.arange(matrix.shape[0]), matrix.crow_indices().diff())
    return rows, matrix.col_indices().long(), matrix.values()


def row_sums(matrix: Tensor) -> Tensor:
    """(N,) float32."""
    rows, _, values = entries(matrix)
    return torch.bincount(rows, values.double(), minlength=matrix.shape[0]).float()


def symmetric(adjacency: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 of a symmetric CSR matrix; its spectral radius is 1 where there is an edge."""
    rows, columns, values = entries(adjacency)
    degree = row_sums(adjacency)
    scale = torch.where(degree > 0, degree, 1).rsqrt()  # a node without edges has no entry to be scaled
    return with_values(adjacency, scale[rows] * values * scale[columns])


def transition(adjacency: Tensor) -> Tensor:
    """(D^-1 A)^T of a CSR matrix whose entry (i, j) is the edge i to j: every column sums to 1, or to 0."""
    rows, columns, values = entries(adjacency)
    return csr(columns, rows, adjacency.shape[0], values / row_sums(adjacency)[rows])


def halves(matrix: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The blocks [:first, first:] and [first:, :first] of a matrix whose other two blocks are empty."""
    crow, col, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    edges, others = col.numel() // 2, matrix.shape[0] - first
    upper = built(crow[: first + 1], col[:edges] - first, values[:edges], others)
    lower = built(crow[first:] - edges, col[edges:], values[edges:], first)
    return upper, lower


def product(matrix: Tensor, x: Tensor) -> Tensor:
    """(R, C) CSR matrix times (C, d): (R, d)."""
    if x.device.type != "cpu" or x.shape[1] < WIDE:
        found: Tensor = matrix @ x
        return found
    crow, col, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    return embedding_bag(col, x, crow, mode="sum", per_sample_weights=values, include_last_offset=True)


class StoredMatrix(nn.Module):
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
        return built(self.crow, self.col, self.values)

    def degree(self) -> Tensor:
        """(N,) number of stored entries in each row."""
        return self.crow.diff()


def _checked(stored: StoredMatrix, _: object) -> None:
    """Check indices from a file once: sparse kernels read memory at them unchecked."""
    crow, col, values = stored.crow, stored.col, stored.values
    if crow.numel() == 1:  # saved before fit
        return
    try:
        built(crow, col, values, check=True)
    except RuntimeError as error:
        raise RecloomError(
            f"the graph in the checkpoint is damaged ({error}). Train again, or take another checkpoint."
        ) from error


def built(
    crow: Tensor, col: Tensor, values: Tensor, columns: int | None = None, check: bool = False
) -> Tensor:
    """The CSR matrix of these parts, square unless `columns` is given."""
    rows = crow.numel() - 1
    with warnings.catch_warnings():  # torch announces once that CSR is in beta
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(crow, col, values, (rows, columns or rows), check_invariants=check)


def with_values(matrix: Tensor, values: Tensor) -> Tensor:
    """The same places with other (E,) values."""
    return built(matrix.crow_indices(), matrix.col_indices(), values)
