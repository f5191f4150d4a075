"""Graph: nodes and weighted edges, with normalisations that are computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import torch
from recloom.errors import DataError
from torch import Tensor

from . import sparse


class Graph:
    """A graph whose nodes are 0 to `num_nodes` - 1, as compressed sparse rows.

    Args:
        sources, targets: (E,) integer, one edge each.
        num_nodes: how many nodes there are; some may have no edge.
        weights: (E,) above 0; None = 1 each. Those of an edge are 1e-30 at least, and all together 1e30 at most, or
            nothing that is computed of them would be right in float32.
        names: of the nodes, each its own; empty where numbers are all there is.
        directed: False gives every edge both directions; a loop stays one.

    Edges that are named twice become one: their weights are added up, or it weighs 1 where there are no weights.
    An undirected edge given in both directions counts as named twice.
    """

    def __init__(
        self,
        sources: Tensor,
        targets: Tensor,
        num_nodes: int,
        weights: Tensor | None = None,
        names: Sequence[str] = (),
        directed: bool = True,
    ) -> None:
        _check(sources, targets, num_nodes, weights, names)
        self.num_nodes, self.directed = num_nodes, directed
        self.names, self.weighted = tuple(names), weights is not None
        if not directed:
            sources, targets = torch.minimum(sources, targets), torch.maximum(sources, targets)
        matrix = sparse.csr(sources, targets, num_nodes, weights)
        if weights is not None:
            _check_sums(matrix)
        self.matrix = matrix if directed else sparse.mirrored(matrix)
        """(N, N) float32 CSR; entry (i, j) is the weight of the edge from i to j."""

    @property
    def num_edges(self) -> int:
        """Edges; an undirected one counts once."""
        entries = int(self.matrix.values().numel())
        if self.directed:
            return entries
        return (entries + self._loops) // 2

    @cached_property
    def degree(self) -> Tensor:
        """(N,) float32: the weights of the edges that leave each node, added up."""
        return sparse.row_sums(self.matrix)

    @cached_property
    def transition(self) -> Tensor:
        """(N, N) CSR; entry (j, i) is the chance that a step from i leads to j: columns sum to 1, or to 0."""
        return sparse.transition(self.matrix)

    @cached_property
    def symmetric(self) -> Tensor:
        """(N, N) CSR D^-1/2 A D^-1/2. Raises DataError for a directed graph, of which it is not symmetric."""
        if self.directed:
            raise DataError(
                "the symmetric normalisation needs an undirected graph; build this one with directed=False"
            )
        return sparse.symmetric(self.matrix)

    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """(E,) int64 sources, (E,) int64 targets and (E,) weights, by source and target; undirected: source first."""
        rows, columns, weights = sparse.entries(self.matrix)
        if self.directed:
            return rows, columns, weights
        once = rows <= columns
        return rows[once], columns[once], weights[once]

    def name(self, node: int) -> str:
        """Of a node; its number where there are no names."""
        return self.names[node] if self.names else str(node)

    def index(self, name: str) -> int:
        """The node of a name. Raises DataError where there is none."""
        found = self._places.get(name)
        if found is None:
            some = ", ".join(repr(self.name(node)) for node in range(min(5, self.num_nodes)))
            raise DataError(f"the graph has no node {name!r}; its {self.num_nodes:,} nodes begin with {some}")
        return found

    def __repr__(self) -> str:
        kind = "directed" if self.directed else "undirected"
        return f"Graph({self.num_nodes:,} nodes, {self.num_edges:,} {kind} edges)"

    @cached_property
    def _places(self) -> dict[str, int]:
        return {self.name(node): node for node in range(self.num_nodes)}

    @cached_property
    def _loops(self) -> int:
        rows, columns, _ = sparse.entries(self.matrix)
        return int((rows == columns).sum())


LEAST, MOST = 1e-30, 1e30


def _check_sums(matrix: Tensor) -> None:
    """Refuse weights whose sums, or their inverses, float32 cannot hold."""
    values = matrix.values()
    if not len(values):
        return
    least, most = float(values.min()), float(values.double().sum())
    if least < LEAST or most > MOST:
        raise DataError(
            f"weights of edges must lie between {LEAST:g} and {MOST:g}, added up; found {least:g} and, in sum, "
            f"{most:g}. Divide them all by the same number."
        )


def _check(
    sources: Tensor, targets: Tensor, num_nodes: int, weights: Tensor | None, names: Sequence[str]
) -> None:
    if sources.shape != targets.shape or sources.dim() != 1:
        raise DataError(
            f"a graph needs one source and one target for each edge; found {tuple(sources.shape)} and "
            f"{tuple(targets.shape)}"
        )
    ends = torch.cat([sources, targets])
    if len(ends) and not 0 <= int(ends.min()) <= int(ends.max()) < num_nodes:
        wrong = int(ends.min()) if int(ends.min()) < 0 else int(ends.max())
        raise DataError(
            f"an edge names node {wrong}; expected 0 to {num_nodes - 1}, as the graph has {num_nodes}"
        )
    right = weights is None or (
        weights.shape == sources.shape and bool(((weights > 0) & weights.isfinite()).all())
    )
    if not right:
        raise DataError(
            "weights of edges must be finite and above 0, one for each edge. Leave out edges without weight; "
            "a sign or a kind is not a weight."
        )
    if names and len(names) != num_nodes:
        raise DataError(f"the graph has {num_nodes} nodes and {len(names)} names")
    if names and len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(f"two nodes are named {twice!r}; give each its own name")
