"""One graph whose nodes have features, labels and parts: what node classification learns from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from recloom.errors import DataError
from torch import Tensor

from ..graphs import sparse
from ..graphs.graph import Graph

PARTS = ("train", "valid", "test")


@dataclass
class NodeGraph:
    """One graph for node classification; the whole of it is one batch.

    Attributes:
        features: (N, F) float32.
        edges: (2, E) int64, from source to target; an undirected edge stands in both directions.
        labels: (N,) int64 class, -1 where unknown; or, where a node has several classes, (N, C) float32 shares that
            sum to 1, all 0 where unknown.
        parts: node numbers of `train`, `valid` and `test`, each (n,) int64 and each labelled.
        num_classes: how many classes there are.
        split: name of the split.

    Raises DataError where these do not fit each other.
    """

    features: Tensor
    edges: Tensor
    labels: Tensor
    parts: dict[str, Tensor]
    num_classes: int
    split: str

    def __post_init__(self) -> None:
        nodes = len(self.features)
        if len(self.labels) != nodes:
            raise DataError(f"expected one label for each of {nodes:,} nodes, found {len(self.labels):,}")
        finite = self.features.isfinite().all(1)
        if not bool(finite.all()):
            wrong = int(finite.logical_not().nonzero()[0, 0])
            raise DataError(
                f"node {wrong} has a feature that is not finite; expected finite numbers. Mend its features."
            )
        if self.edges.numel() and not 0 <= int(self.edges.min()) <= int(self.edges.max()) < nodes:
            raise DataError(f"an edge names node {int(self.edges.max())}; expected 0 to {nodes - 1}")
        for part, rows in self.parts.items():
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < nodes:
                raise DataError(f"the {part} part names node {int(rows.max())}; expected 0 to {nodes - 1}")
            if not bool(self.labelled[rows].all()):
                raise DataError(f"the {part} part holds a node without label")
        told = torch.cat([*self.parts.values()])
        if len(torch.unique(told)) < len(told):
            raise DataError("a node stands in two parts of the split, so it would be learnt and measured")

    @property
    def labelled(self) -> Tensor:
        """(N,) whether the label of a node is known."""
        return self.labels >= 0 if self.labels.dim() == 1 else self.labels.sum(1) > 0

    def digest(self) -> str:
        """16 hex digits that are equal for equal features, edges, labels and parts."""
        found = hashlib.sha256()
        for tensor in (
            self.features,
            self.edges,
            self.labels,
            *(self.parts[part] for part in sorted(self.parts)),
        ):
            found.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        return found.hexdigest()[:16]


def both_ways(graph: Graph) -> Tensor:
    """(2, E) edges of an undirected graph, each in both directions, a loop once."""
    rows, columns, _ = sparse.entries(graph.matrix)
    return torch.stack([rows, columns])


def symmetrised(edges: Tensor, nodes: int) -> Tensor:
    """(2, E') of (2, E) directed edges: each in both directions, none twice; (a, b) and (b, a) become these two."""
    return both_ways(Graph(edges[0], edges[1], nodes, directed=False))
