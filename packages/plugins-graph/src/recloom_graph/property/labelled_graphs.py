"""Graphs for classification: one graph with labelled nodes, or many graphs with a label each, and batches of these."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from recloom.data import ranges
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
        edges: (2, E) int64, from source to target; an undirected edge is there in both directions.
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
        every = torch.cat([*self.parts.values()])
        if len(torch.unique(every)) < len(every):
            raise DataError("a node is in two parts of the split, so it would be learnt and measured")

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


@dataclass
class GraphBatch:
    """Some graphs as one disconnected graph.

    Attributes:
        features: (N, F) of all their nodes.
        edges: (2, E) int64 among these.
        graph: (N,) int64, the place in the batch of each node's graph.
        labels: (B, T).
    """

    features: Tensor
    edges: Tensor
    graph: Tensor
    labels: Tensor


@dataclass
class GraphSet:
    """Graphs one after another.

    Attributes:
        features: (N, F) of the nodes of all graphs: int64 where they name categories, else float32.
        edges: (2, E) int64 nodes, by graph; an undirected edge is there in both directions.
        nodes: (G,) int64 nodes of each graph.
        labels: (G, T) float32, NaN where a graph has no label for a task.
        parts: numbers of the graphs of `train`, `valid` and `test`, each (n,) int64.
        split: name of the split.

    Raises DataError where these do not fit each other.
    """

    features: Tensor
    edges: Tensor
    nodes: Tensor
    labels: Tensor
    parts: dict[str, Tensor]
    split: str

    def __post_init__(self) -> None:
        self.first = torch.cat([torch.zeros(1, dtype=torch.long), self.nodes.cumsum(0)])  # (G + 1,)
        total, count = int(self.first[-1]), len(self.nodes)
        if total != len(self.features) or count != len(self.labels):
            raise DataError(
                f"{count:,} graphs of {total:,} nodes do not fit {len(self.labels):,} labels and "
                f"{len(self.features):,} rows of features"
            )
        owner = torch.repeat_interleave(torch.arange(count), self.nodes)
        if self.edges.numel() and not 0 <= int(self.edges.min()) <= int(self.edges.max()) < total:
            raise DataError(f"an edge names node {int(self.edges.max())}; expected 0 to {total - 1}")
        if not torch.equal(owner[self.edges[0]], owner[self.edges[1]]):
            raise DataError("an edge leads from one graph to another")
        every = torch.cat([*self.parts.values()])
        if len(every) and not 0 <= int(every.min()) <= int(every.max()) < count:
            raise DataError(f"the split names graph {int(every.max())}; expected 0 to {count - 1}")
        if len(torch.unique(every)) < len(every):
            raise DataError("a graph is in two parts of the split, so it would be learnt and measured")
        order = owner[self.edges[0]].argsort(stable=True)
        self.edges = self.edges[:, order]
        self.sizes = torch.bincount(owner[self.edges[0]], minlength=count)  # (G,) edges
        self.edge_first = self.sizes.cumsum(0) - self.sizes

    @property
    def categories(self) -> list[int]:
        """How many categories each column of features has; empty where they are numbers."""
        if self.features.is_floating_point():
            return []
        found: list[int] = (self.features.amax(0) + 1).tolist()
        return found

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, chosen: Tensor) -> GraphBatch:
        """The graphs of (B,) numbers as one batch, gathered at once."""
        counts, sizes = self.nodes[chosen], self.sizes[chosen]
        rows = ranges(self.first[chosen], counts)
        moved = (
            counts.cumsum(0) - counts - self.first[chosen]
        )  # (B,) from the place here to that in the batch
        edges = self.edges[:, ranges(self.edge_first[chosen], sizes)] + torch.repeat_interleave(moved, sizes)
        owner = torch.repeat_interleave(torch.arange(len(chosen)), counts)
        return GraphBatch(self.features[rows], edges, owner, self.labels[chosen])

    def digest(self) -> str:
        """16 hex digits that are equal for equal graphs, labels and parts."""
        found = hashlib.sha256()
        parts = (self.parts[part] for part in sorted(self.parts))
        for tensor in (self.features, self.edges, self.nodes, self.labels, *parts):
            found.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        return found.hexdigest()[:16]
