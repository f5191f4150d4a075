"""Product of a symmetric sparse matrix with vectors by torch, DGL or PyG; each prepares the matrix once.

    torch   a sum over bags of rows, nothing beside torch
    dgl     messages copy_u, summed by `update_all`, scaled before and after by the degrees; u_mul_e, which is many
            times slower, where edges have weights
    pyg     LGConv without a normalisation of its own, on a CSR adjacency

All three are one sum over neighbours and equal but for rounding. None computes gradients: `propagate` derives them
from the symmetry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from recloom.errors import RecloomError
from torch import Tensor

from . import sparse
from .convert import dgl_library, needed

Backend = Literal["torch", "dgl", "pyg"]
Product = Callable[[Tensor], Tensor]
"""(N, d) vectors to the (N, d) product of a matrix with them."""


def library(backend: Backend) -> Any:
    """The library of a backend; None for torch. Raises RecloomError for another name, and where it is not installed."""
    if backend not in get_args(Backend):
        raise RecloomError(f"backend must be one of {', '.join(get_args(Backend))}; found {backend!r}")
    if backend == "dgl":
        return dgl_library()
    return needed("torch_geometric.nn", "pyg") if backend == "pyg" else None


def product(matrix: Tensor, backend: Backend = "torch") -> Product:
    """The product with a symmetric (N, N) CSR matrix. Raises RecloomError as `library` does."""
    found = library(backend)
    if backend == "dgl":
        return _dgl(matrix, found)
    return _pyg(matrix, found) if backend == "pyg" else _torch(matrix)


def _torch(matrix: Tensor) -> Product:
    def summed(x: Tensor) -> Tensor:
        return sparse.product(matrix, x)

    return summed


def _dgl(matrix: Tensor, dgl: Any) -> Product:
    rows, columns, weights = sparse.entries(matrix)
    graph = dgl.graph((columns.int(), rows.int()), num_nodes=matrix.shape[0], device=matrix.device)
    count = matrix.crow_indices().diff()
    scale = torch.where(count > 0, count, 1).rsqrt()
    plain = torch.allclose(weights, scale[rows] * scale[columns], atol=0)
    message = dgl.function.copy_u("x", "m") if plain else dgl.function.u_mul_e("x", "weight", "m")
    if not plain:
        graph.edata["weight"] = weights[:, None]  # (E, 1)

    def passed(x: Tensor) -> Tensor:
        with graph.local_scope():
            graph.ndata["x"] = x * scale[:, None] if plain else x
            graph.update_all(message, dgl.function.sum("m", "y"))
            found: Tensor = graph.ndata["y"]
        return found * scale[:, None] if plain else found

    return passed


def _pyg(matrix: Tensor, layers: Any) -> Product:
    convolution = layers.LGConv(normalize=False)

    def convolved(x: Tensor) -> Tensor:
        found: Tensor = convolution(x, matrix)
        return found

    return convolved
