"""Random walks from many nodes at once: first order (DeepWalk) and second order (node2vec).

DeepWalk (Perozzi et al., KDD 2014) steps to a neighbour by the weights of the edges. node2vec (Grover and
Leskovec, KDD 2016) multiplies them, coming from t, standing at v and looking at x, by

    1/p  where x = t,    1  where x is a neighbour of t,    1/q  elsewhere

Its steps are drawn by rejection: a neighbour is proposed as DeepWalk would, and accepted with the factor above over
the largest of the three. That is exact and needs no table of pairs of edges. All walks draw together, and each goes
on at its own pace: none waits for another whose proposal was rejected.

Unlike the reference code: on a directed graph x is a neighbour of t where an edge leads from t to x, the way that the
walk went; the code asks for an edge from x to t, and the paper says nothing of directions. On undirected graphs it is
the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from recloom.errors import DataError, RecloomError
from torch import Tensor

from ..graphs import sparse
from ..graphs.graph import Graph

BLOCK = 32_768  # walks at once: what a draw looks at stays in the cache
BITMAP = 2**31  # pairs of nodes up to which edges are looked up in a bitmap

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
        self.crow, self.col = graph.matrix.crow_indices(), graph.matrix.col_indices()
        self.before: Tensor | None = None
        if graph.weighted:
            rows, _, weights = sparse.entries(graph.matrix)
            sums = torch.bincount(rows, weights.double(), minlength=graph.num_nodes)
            chances = weights.double() / sums[rows]  # every node counts 1, so that light edges are not lost
            self.before = torch.cat([chances.new_zeros(1), chances.cumsum(0)])
        self.joined = joined(graph) if q != 1 else None
        self.top = max(1.0, 1 / q)
        self.extra = max(0.0, 1 / p - self.top)
        if graph.directed or graph.weighted:  # there may be no way back, or one of another weight
            self.top, self.extra = self.top + self.extra, 0.0

    def walks(self, starts: Tensor, length: int, generator: torch.Generator | None = None) -> Tensor:
        """(S, length) int64 walks from (S,) nodes, which come first; END after a node that no edge leaves."""
        if length < 1:
            raise RecloomError(f"a walk has 1 node at least; found length {length}")
        if len(starts) and not 0 <= int(starts.min()) <= int(starts.max()) < self.num_nodes:
            raise DataError(f"walks start at nodes 0 to {self.num_nodes - 1}; found another one")
        blocks = [self._block(block, length, generator) for block in torch.split(starts.int(), BLOCK)]
        return torch.cat(blocks).long()

    def _block(self, here: Tensor, length: int, generator: torch.Generator | None) -> Tensor:
        """(S, length) int32 walks. A round proposes a step for each walk and takes the accepted ones."""
        count = len(here)
        found = torch.full((length, count), END, dtype=torch.int32)
        found[0] = here
        flat, last = found.view(-1), (length - 1) * count
        slot, came = torch.arange(count), torch.full_like(here, END)  # slot: of `here` in `flat`
        while True:
            first = self.crow.index_select(0, here)
            degree = self.crow.index_select(0, here + 1) - first
            going = (slot < last) & (degree > 0)
            share = int(going.count_nonzero())
            if share == 0:
                return found.T.contiguous()
            if share < 0.8 * len(here):
                slot, came, here, first, degree = (part[going] for part in (slot, came, here, first, degree))
                going = going[going]
            proposed, draw = self._proposed(came, first, degree, generator)
            taken = self._taken(came, proposed, draw, degree).logical_and_(going).int()
            slot = slot + taken * count
            came = torch.addcmul(came, here - came, taken)  # `here` where taken; torch.where is slower by far
            here = torch.addcmul(here, proposed - here, taken)
            flat.scatter_(0, slot, here)

    def _proposed(
        self, came: Tensor, first: Tensor, degree: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """(M,) neighbours by the weights of the edges, and (M,) draws from 0 to `top` that do not depend on them.

        What the factor of the way back has beyond `top` is an edge of its own, which leads back and nowhere else.
        Otherwise all other proposals would be rejected more often because of it.
        """
        share = torch.rand(len(came), generator=generator, dtype=torch.float64)
        if self.before is None:
            share *= degree + self.extra / self.top
            step = share.int()
            draw, place = share - step, first + step  # what is left of a uniform draw is one again
        else:
            low, high = self.before.index_select(0, first), self.before.index_select(0, first + degree)
            place = torch.searchsorted(self.before, low + share * (high - low), right=True).int() - 1
            place = place.clamp(min=first, max=first + degree - 1)
            draw = torch.rand(len(came), generator=generator, dtype=torch.float64)
        proposed = self.col.index_select(0, place.clamp(max=len(self.col) - 1))
        if self.extra:
            proposed = torch.addcmul(proposed, came - proposed, (share >= degree).int())
        return proposed, draw * self.top

    def _taken(self, came: Tensor, proposed: Tensor, draw: Tensor, degree: Tensor) -> Tensor:
        """(M,) bool: whether a proposal is accepted. A first step, which came from nowhere, cannot go back there.

        Where one edge alone leaves, there is nothing to reject.
        """
        low, high = sorted((1.0, 1 / self.q))
        taken = draw < low
        if self.joined is not None:
            near = self.joined(came, proposed)
            taken |= (draw < high) & (near if self.q > 1 else ~near)
        back = proposed == came
        taken = (taken & ~back) | (back & (draw < 1 / self.p))
        return taken.logical_or_(came == END).logical_or_(degree == 1).logical_and_(proposed != END)


def joined(graph: Graph) -> Callable[[Tensor, Tensor], Tensor]:
    """(M,) sources and (M,) targets to (M,) bool: whether an edge leads from each to the other."""
    size = graph.num_nodes
    rows, columns, _ = sparse.entries(graph.matrix)
    keys = rows * size + columns  # sorted, as rows and columns are

    def sought(sources: Tensor, targets: Tensor) -> Tensor:
        wanted = sources.long() * size + targets
        place = torch.searchsorted(keys, wanted).clamp(max=max(0, len(keys) - 1))
        return torch.eq(keys.index_select(0, place), wanted)

    if size**2 > BITMAP:
        return sought
    bits = torch.zeros(size**2 // 8 + 1, dtype=torch.uint8)
    bits.index_add_(0, keys >> 3, torch.bitwise_left_shift(torch.ones_like(keys), keys & 7).byte())

    def looked_up(sources: Tensor, targets: Tensor) -> Tensor:
        wanted = (sources.long() * size + targets).clamp(min=0)  # END joins nothing, and is not asked for
        return (bits.index_select(0, wanted >> 3) >> (wanted.byte() & 7)).bitwise_and_(1).bool()

    return looked_up
