"""Random walks from many nodes at once: first order (DeepWalk) and second order (node2vec).

DeepWalk (Perozzi et al., KDD 2014) steps to a neighbour by the weights of the edges. node2vec (Grover and
Leskovec, KDD 2016) multiplies them, coming from t, standing at v and looking at x, by

    1/p  where x = t,    1  where x is a neighbour of t,    1/q  elsewhere

Its steps are drawn by rejection: a neighbour is proposed as DeepWalk would, and accepted with the factor above over
the largest of the three. That is exact, needs no table of pairs of edges, and all walks take a step together.
"""

from __future__ import annotations

import torch
from recloom.errors import DataError, RecloomError
from torch import Tensor

from . import sparse
from .graph import Graph

END = -1
"""Stands after the last node of a walk that could not go on."""


class Walker:
    """Draws walks on a graph; what they look up is computed once.

    Args:
        graph: its weights are the chances of its edges.
        p: how unlikely a walk returns at once.
        q: how unlikely it moves away from where it was; p = q = 1 is DeepWalk.
    """

    def __init__(self, graph: Graph, p: float = 1.0, q: float = 1.0) -> None:
        for name, value in (("p", p), ("q", q)):
            if not 0 < value < float("inf"):
                raise RecloomError(f"{name} must be above 0 and finite; found {value}")
        self.num_nodes, self.p, self.q = graph.num_nodes, p, q
        self.crow, self.col = graph.matrix.crow_indices().long(), graph.matrix.col_indices().long()
        weights = graph.matrix.values().double()
        self.before = torch.cat([weights.new_zeros(1), weights.cumsum(0)]) if graph.weighted else None
        rows, columns, _ = sparse.entries(graph.matrix)
        self.keys = rows * graph.num_nodes + columns  # sorted, as rows and columns are

    def walks(self, starts: Tensor, length: int, generator: torch.Generator | None = None) -> Tensor:
        """(S, length) int64 walks from (S,) nodes, which come first; END after a node that no edge leaves."""
        if length < 1:
            raise RecloomError(f"a walk has 1 node at least; found length {length}")
        if len(starts) and not 0 <= int(starts.min()) <= int(starts.max()) < self.num_nodes:
            raise DataError(f"walks start at nodes 0 to {self.num_nodes - 1}; found another one")
        found = torch.full((len(starts), length), END)
        found[:, 0] = starts
        going = torch.arange(len(starts))
        for place in range(1, length):
            here = found[going, place - 1]
            leaves = self.crow[here + 1] > self.crow[here]
            going, here = going[leaves], here[leaves]
            if not len(going):
                break
            came = found[going, place - 2] if place > 1 else None
            found[going, place] = self._step(here, came, generator)
        return found

    def _step(self, here: Tensor, came: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """(M,) the next nodes."""
        if came is None or self.p == self.q == 1:
            return self._proposed(here, generator)
        largest = max(1 / self.p, 1.0, 1 / self.q)
        following = torch.empty_like(here)
        left = torch.arange(len(here))
        while len(left):
            at, before = here[left], came[left]
            next_node = self._proposed(at, generator)
            factor = torch.where(self._joined(before, next_node), 1.0, 1 / self.q)
            factor = torch.where(next_node == before, 1 / self.p, factor)
            taken = torch.rand(len(left), generator=generator) * largest < factor
            following[left[taken]] = next_node[taken]
            left = left[~taken]
        return following

    def _proposed(self, here: Tensor, generator: torch.Generator | None) -> Tensor:
        """(M,) neighbours by the weights of the edges."""
        first, last = self.crow[here], self.crow[here + 1]
        share = torch.rand(len(here), generator=generator, dtype=torch.float64)
        if self.before is None:
            place = first + (share * (last - first)).long()
        else:
            low, high = self.before[first], self.before[last]
            place = torch.searchsorted(self.before, low + share * (high - low), right=True) - 1
        return self.col[place.clamp(min=first, max=last - 1)]

    def _joined(self, sources: Tensor, targets: Tensor) -> Tensor:
        """(M,) bool: whether an edge leads from each source to its target."""
        wanted = sources * self.num_nodes + targets
        place = torch.searchsorted(self.keys, wanted).clamp(max=max(0, len(self.keys) - 1))
        joined: Tensor = torch.eq(self.keys[place], wanted)
        return joined
