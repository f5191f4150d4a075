"""What skip-gram learns from: walks from every node, in random order, and nodes that stand for all the others.

A round starts one walk at every node that an edge leaves; an epoch is several rounds. Walks are drawn in blocks, so
that memory does not grow with the graph. The other nodes are drawn with the 3/4 power of the weights that enter
them, as LINE does (Tang et al., WWW 2015): in an undirected graph a walk meets a node as often as its weights say,
so this is word2vec's 3/4 power of the unigrams, and needs no walk before the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from ..graphs import sparse
from ..graphs.graph import Graph
from .walks import Walker

BLOCK = 1 << 20
"""Nodes of walks that are held at once, at 8 bytes each."""
POWER = 0.75


class WalkBatches(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of (B, length) int64 walks, END where they ended, and (B, noise) int64 other nodes.

    Args:
        walker: draws the walks.
        graph: the graph that it walks on.
        length: nodes of a walk.
        rounds: walks from each node in an epoch.
        batch_size: walks of a batch.
        noise: other nodes that go with each walk.
        seed: the same one gives the same batches, epoch by epoch.
    """

    def __init__(
        self, walker: Walker, graph: Graph, length: int, rounds: int, batch_size: int, noise: int, seed: int
    ) -> None:
        self.walker, self.length, self.rounds = walker, length, rounds
        self.batch_size, self.noise = batch_size, noise
        self.starts = graph.matrix.crow_indices().diff().nonzero().squeeze(1)
        self.bounds = noise_weights(graph).cumsum(0)
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return sum(-(-rounds * len(self.starts) // self.batch_size) for rounds in self._blocks())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rounds in self._blocks():
            orders = [torch.randperm(len(self.starts), generator=self.generator) for _ in range(rounds)]
            for starts in torch.split(self.starts[torch.cat(orders)], self._at_once):
                block = self.walker.walks(starts, self.length, self.generator)
                for walks in torch.split(block, self.batch_size):
                    yield walks, self.others(len(walks))

    def others(self, count: int) -> Tensor:
        """(count, noise) int64 nodes by the 3/4 power of the weights that enter them."""
        place = torch.rand(count, self.noise, generator=self.generator, dtype=torch.float64) * self.bounds[-1]
        return torch.searchsorted(self.bounds, place, right=True).clamp(max=len(self.bounds) - 1)

    @property
    def _at_once(self) -> int:
        """Walks of a block, some whole batches."""
        return self.batch_size * max(1, BLOCK // (self.batch_size * self.length))

    def _blocks(self) -> list[int]:
        """How many rounds begin together: a round of a small graph is too short to be drawn alone."""
        together = max(1, self._at_once // max(1, len(self.starts)))
        return [min(together, self.rounds - done) for done in range(0, self.rounds, together)]


def noise_weights(graph: Graph) -> Tensor:
    """(N,) float64: how likely each node stands for the others, up to a factor."""
    _, targets, weights = sparse.entries(graph.matrix)
    return torch.bincount(targets, weights.double(), minlength=graph.num_nodes) ** POWER
