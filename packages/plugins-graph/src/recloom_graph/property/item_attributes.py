"""Items with what they are known to be, in the graph of what is met together: what `recloom graph predict` learns.

Item i is node i; node 0 is padding and has neither edges nor labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from recloom.data import Catalog
from recloom.errors import DataError
from torch import Tensor

from ..graphs import sparse
from ..graphs.dataset_graphs import attributes
from ..graphs.graph import Graph
from .node_graph import both_ways

TEST, VALID = 0.2, 0.1
"""Shares of the items with a known value that are held out."""
FEWEST = 20
"""Items with a known value, of which parts can be made."""


@dataclass
class KnownValues:
    """The values of one attribute.

    Attributes:
        names: (C) the different values.
        shares: (num_items + 1, C) float32; a row is 1 / n at each of an item's n values, all 0 where none is known.
    """

    names: list[str]
    shares: Tensor

    @property
    def items(self) -> Tensor:
        """(K,) items with a value."""
        return self.shares.sum(1).nonzero()[:, 0]

    @property
    def lacking(self) -> Tensor:
        """(M,) items without one."""
        found = (self.shares.sum(1) == 0).nonzero()[:, 0]
        return found[found > 0]


def known_values(catalog: Catalog, attribute: str) -> KnownValues:
    """Of a column of the items; a text may hold several values between `|`.

    Raises DataError where the items have no such column, or values that are not shared by items.
    """
    graph = attributes(catalog, [attribute])
    first = catalog.num_items + 1
    items, values, _ = graph.edges()
    names = [name.partition(": ")[2] for name in graph.names[first:]]
    shares = torch.zeros(first, len(names))
    shares[items, values - first] = 1
    counts = shares.sum(1)
    known = int((counts > 0).sum())
    if known < FEWEST:
        raise DataError(
            f"{known} items have a value of {attribute!r}; at least {FEWEST} are needed to learn from and to measure"
        )
    if len(names) < 2 or 2 * len(names) > known:
        raise DataError(
            f"{attribute!r} has {len(names):,} different values for {known:,} items; expected at least two values, "
            "each shared by several items, such as genres"
        )
    return KnownValues(names, shares / counts.clamp(min=1)[:, None])


def parts_of(known: KnownValues, seed: int) -> dict[str, Tensor]:
    """Items with a value, drawn into `train`, `valid` and `test`."""
    order = known.items[torch.randperm(len(known.items), generator=torch.Generator().manual_seed(seed))]
    test, valid = (max(1, round(share * len(order))) for share in (TEST, VALID))
    return {"test": order[:test], "valid": order[test : test + valid], "train": order[test + valid :]}


def nearest(graph: Graph, neighbours: int) -> Tensor:
    """(2, E) edges in both directions from every node to its `neighbours` closest, by w_ij / sqrt(d_i d_j)."""
    rows, columns, weights = sparse.entries(graph.symmetric)
    order = weights.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]  # by row, the closest first
    starts = graph.matrix.crow_indices().long()[rows[order]]
    kept = order[torch.arange(len(order)) - starts < neighbours]
    return both_ways(Graph(rows[kept], columns[kept], graph.num_nodes, directed=False))


def spectral(graph: Graph, dim: int, seed: int) -> Tensor:
    """(N, dim) eigenvectors of D^-1/2 A D^-1/2 with the largest eigenvalues, each of variance 1: structure alone."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import eigsh

    matrix = graph.symmetric
    parts = (part.numpy() for part in (matrix.values(), matrix.col_indices(), matrix.crow_indices()))
    start = np.random.default_rng(seed).standard_normal(graph.num_nodes).astype(np.float32)
    size = min(dim, graph.num_nodes - 2)
    _, vectors = eigsh(csr_matrix(tuple(parts), shape=tuple(matrix.shape)), k=size, v0=start, tol=1e-3)
    return torch.from_numpy((vectors * graph.num_nodes**0.5).astype(np.float32))


def shuffled(edges: Tensor, nodes: int, seed: int) -> Tensor:
    """The same graph among other nodes: every node but 0 takes the edges of another one."""
    place = torch.cat([torch.zeros(1).long(), 1 + torch.randperm(nodes - 1, generator=_drawn(seed))])
    found: Tensor = place[edges]
    return found


def _drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
