"""DeepWalk and node2vec: skip-gram with negative sampling over random walks.

    L = - mean over pairs (c, x) of [ log s(z_c . w_x) + sum over k nodes n of log s(-z_c . w_n) ]

Two nodes of a walk are a pair, both ways, where a window of `context` nodes holds both. z is the vector of a node as a
centre, w that of a node as a context, s is the logistic function. n is drawn by the 3/4 power of the weights that enter
it, as in LINE (Tang et al., WWW 2015), and may be x by chance. Perozzi et al., "DeepWalk" (KDD 2014), with the loss
of Mikolov et al. (NIPS 2013); Grover and Leskovec, "node2vec" (KDD 2016).

The vector of a node is z + w (Levy, Goldberg and Dagan, TACL 2015), so that nodes are close which share
neighbours and which are neighbours. By z alone a hub is closest to nodes that have no other neighbour.

The pairs of a walk are a band of the product of its z and its w, so no pair is gathered. The nodes n are drawn once
for all the centres of a walk, k (context - 1) of them, and weighted so that each pair has k in expectation.
A walk on an undirected graph visits a node in proportion to its weights, so their 3/4 power is word2vec's 3/4 power
of the unigrams and needs no counting of walks.
"""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import torch
from recloom.errors import DataError, RecloomError, at_least
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, IterableDataset

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
        """Sizes of the groups of rounds that are drawn together: a round of a small graph is too short alone."""
        together = max(1, self._at_once // max(1, len(self.starts)))
        return [min(together, self.rounds - done) for done in range(0, self.rounds, together)]


def noise_weights(graph: Graph) -> Tensor:
    """(N,) float64 unnormalised probabilities of the negative nodes."""
    _, targets, weights = sparse.entries(graph.matrix)
    return torch.bincount(targets, weights.double(), minlength=graph.num_nodes) ** POWER


FEWEST, MOST, BATCHES = 8, 256, 100
"""A batch holds 256 walks, or as many fewer, down to 8, as leave an epoch 100 batches."""


class SkipGram(L.LightningModule):
    """Vectors of nodes such that nodes of common walks are close; p = q = 1 is DeepWalk.

    OGB's defaults are walks of 80 nodes and a context of 20; half of each takes a quarter of the time.

    Args:
        graph: what is walked on; weights are the chances of its edges.
        dim: size of a vector.
        p: how unlikely a walk returns at once.
        q: how unlikely it moves away from where it was.
        walk_length: nodes of a walk.
        walks: from each node in an epoch.
        context: nodes of a window.
        negatives: negative nodes of each pair.
        batch_size: walks of a batch; None = 256, on small graphs fewer.
        lr: of Adam.
        seed: of everything random.
    """

    def __init__(
        self,
        graph: Graph,
        dim: int = 128,
        p: float = 1.0,
        q: float = 1.0,
        walk_length: int = 40,
        walks: int = 10,
        context: int = 10,
        negatives: int = 5,
        batch_size: int | None = None,
        lr: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least(1, dim=dim, walks=walks, negatives=negatives, batch_size=batch_size)
        at_least(2, walk_length=walk_length, context=context)
        at_least(0, seed=seed)
        if not 0 < lr < float("inf"):
            raise RecloomError(f"lr must be above 0 and finite; found {lr}")
        if not graph.num_edges:
            raise DataError(f"{graph} has no edge, so no walk takes a step; give a graph with edges")
        self.walk_length, self.context, self.negatives, self.lr = walk_length, context, negatives, lr
        size = batch_size or min(MOST, max(FEWEST, walks * graph.num_nodes // BATCHES))
        noise = negatives * (context - 1)
        self.batches = WalkBatches(Walker(graph, p, q), graph, walk_length, walks, size, noise, seed)
        self.sparse = graph.num_nodes > size * (walk_length + noise)  # a batch cannot touch every row
        self.centres = nn.Embedding(graph.num_nodes, dim, sparse=self.sparse)
        self.contexts = nn.Embedding(graph.num_nodes, dim, sparse=self.sparse)
        generator = torch.Generator().manual_seed(seed)
        nn.init.uniform_(self.centres.weight, -0.5 / dim, 0.5 / dim, generator=generator)
        nn.init.zeros_(self.contexts.weight)
        self.known = torch.zeros(graph.num_nodes, dtype=torch.bool)
        """(N,) bool: visited by a walk; the vectors of other nodes were never trained."""

    def loss(self, walks: Tensor, noise: Tensor) -> Tensor:
        """Mean over the pairs of (B, L) walks, with (B, M) negative nodes of each walk."""
        real, nodes = walks >= 0, walks.clamp(min=0)
        centres = self.centres(nodes)  # (B, L, d)
        near = centres @ self.contexts(nodes).transpose(1, 2)  # (B, L, L)
        far = centres @ self.contexts(noise).transpose(1, 2)  # (B, L, M)
        place = torch.arange(walks.shape[1], device=walks.device)
        apart = (place[:, None] - place).abs()
        pairs = (apart > 0) & (apart < self.context) & real[:, :, None] & real[:, None]
        counts = pairs.sum(2)  # (B, L): pairs of each centre
        total = (softplus(-near) * pairs).sum()
        total = total + self.negatives * (softplus(far).mean(2) * counts).sum()
        return total / counts.sum()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        walks, noise = batch
        self.known[walks[walks >= 0].cpu()] = True
        loss = self.loss(walks, noise)
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(walks))
        return loss

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.batches, batch_size=None)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; of large graphs, only on the rows that a batch touches."""
        tables = [self.centres.weight, self.contexts.weight]
        if self.sparse:
            return torch.optim.SparseAdam(tables, self.lr)
        return torch.optim.Adam(tables, self.lr, fused=True)

    def vectors(self) -> Tensor:
        """(N, dim) float32: z + w."""
        return (self.centres.weight + self.contexts.weight).detach().cpu()
