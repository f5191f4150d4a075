"""Edges and as many non-edges, some of both held out for measurement.

All pairs that could be edges are numbered. The n-th non-edge is then found by counting the edges before it, so
non-edges are drawn uniformly, each at most once, without trying any in vain. A pair has no direction, and a loop is
no pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from recloom.errors import DataError, RecloomError
from torch import Tensor

from ..graphs.graph import Graph


@dataclass(frozen=True)
class EdgeSplit:
    """(P, 2) int64 pairs, the smaller node first: edges and as many non-edges, for training and held out.

    `others` draws further non-edges for training: no edge, and nothing that is held out.
    """

    edges: Tensor
    non_edges: Tensor
    held_out: Tensor
    held_out_non_edges: Tensor
    others: NonEdges


class PairNumbers:
    """Numbers of all pairs of different nodes, from 0.

    Args:
        num_nodes: of the graph.
        sides: where given, only nodes below it are paired with nodes from it on, as users with items.
    """

    def __init__(self, num_nodes: int, sides: int | None = None) -> None:
        self.num_nodes, self.sides = num_nodes, sides
        self.total = num_nodes * (num_nodes - 1) // 2 if sides is None else sides * (num_nodes - sides)

    def number(self, pairs: Tensor) -> Tensor:
        """(P,) of (P, 2) pairs, the smaller node first."""
        low, high = pairs.unbind(1)
        if self.sides is None:
            return high * (high - 1) // 2 + low
        if bool(((low >= self.sides) | (high < self.sides)).any()):
            raise DataError(
                f"an edge joins two nodes of one side; expected nodes below {self.sides} with others"
            )
        return low * (self.num_nodes - self.sides) + high - self.sides

    def pair(self, number: Tensor) -> Tensor:
        """(P, 2) pairs of (P,) numbers."""
        if self.sides is not None:
            width = self.num_nodes - self.sides
            return torch.stack([number // width, number % width + self.sides], 1)
        high = ((1 + (1 + 8 * number.double()).sqrt()) / 2).long()
        high -= (high * (high - 1) // 2 > number).long()  # the root may be off by one
        high += (high * (high + 1) // 2 <= number).long()
        return torch.stack([number - high * (high - 1) // 2, high], 1)


def edge_pairs(graph: Graph) -> Tensor:
    """(E, 2) int64: the pairs with an edge in either direction; loops are left out."""
    sources, targets, _ = graph.edges()
    pairs = torch.stack([torch.minimum(sources, targets), torch.maximum(sources, targets)], 1)
    distinct: Tensor = torch.unique(pairs[sources != targets], dim=0)
    return distinct


class NonEdges:
    """Uniform sampler of pairs without an edge.

    Args:
        numbers: of all pairs.
        taken: (P, 2) different pairs that are never drawn, the smaller node first.
    """

    def __init__(self, numbers: PairNumbers, taken: Tensor) -> None:
        ordered = numbers.number(taken).sort().values
        self.numbers, self.free = numbers, numbers.total - len(ordered)
        self.before = ordered - torch.arange(len(ordered))  # free pairs before each taken one

    def draw(self, count: int, random: np.random.Generator, again: bool = False) -> Tensor:
        """(count, 2) int64 pairs; each once, or, where `again`, independently."""
        nth = (
            random.integers(self.free, size=count)
            if again
            else random.choice(self.free, count, replace=False)
        )
        free = torch.from_numpy(nth)
        return self.numbers.pair(free + torch.searchsorted(self.before, free, right=True))


def split_edges(graph: Graph, share: float, seed: int, sides: int | None = None) -> EdgeSplit:
    """Hold a share of the edges out, drawn uniformly, and draw as many non-edges as there are edges.

    Raises DataError where nothing is left to train on, nothing would be held out though it is asked for, or the
    graph has fewer non-edges than edges.
    """
    if not 0 <= share < 1:
        raise RecloomError(f"held_out must be at least 0 and below 1; found {share}")
    edges = edge_pairs(graph)
    held = round(share * len(edges))
    if held == len(edges) or (share and not held):
        raise DataError(
            f"of {len(edges):,} edges a share of {share:g} is {held:,}; expected at least one edge to train on and, "
            "where a share is asked for, one to hold out. Choose another --held-out, or 0."
        )
    numbers, random = PairNumbers(graph.num_nodes, sides), np.random.default_rng(seed)
    free = NonEdges(numbers, edges)
    if free.free < len(edges):
        raise DataError(
            f"the graph has {len(edges):,} edges and {free.free:,} pairs without one; expected at least as many. "
            "Take --method node2vec for a graph as dense as this."
        )
    edges = edges[torch.from_numpy(random.permutation(len(edges)))]
    non_edges = free.draw(len(edges), random)
    others = NonEdges(numbers, torch.cat([edges, non_edges[:held]]))
    return EdgeSplit(edges[held:], non_edges[held:], edges[:held], non_edges[:held], others)
