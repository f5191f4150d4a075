"""Link prediction with shallow embeddings, as in Stanford's CS224W: vectors that separate edges from non-edges.

    p(u, v) = s(z_u . z_v),   L = mean binary cross-entropy over the edges and as many sampled non-edges

z starts uniform in [0, 1), so that every pair looks like an edge at first. Memorising all pairs is easy; what was
learnt shows on pairs that are held out, where a random guess has an AUC of 0.5. The course samples non-edges once;
with new ones in every epoch there is more to learn and less to memorise, so that is the default.
"""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import numpy as np
import torch
from recloom.errors import RecloomError, at_least
from recloom.metrics import auc
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, IterableDataset

from ..graphs.graph import Graph
from .edge_split import EdgeSplit, split_edges

LR, NODES = 0.1, 34
"""The step size of the course, and the nodes of its graph."""
BATCH = 1 << 16


class PairBatches(IterableDataset[tuple[Tensor, Tensor]]):
    """(B, 2) pairs and (B,) labels: the edges and as many non-edges, shuffled where they take several batches.

    Args:
        split: the pairs for training.
        resample: whether every epoch draws its non-edges anew.
        batch_size: pairs of a batch.
        seed: the same one gives the same batches, epoch by epoch.
    """

    def __init__(self, split: EdgeSplit, resample: bool, batch_size: int, seed: int) -> None:
        self.split, self.resample, self.batch_size = split, resample, batch_size
        self.random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-2 * len(self.split.edges) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        pairs, labels = self.split.edges, labelled(len(self.split.edges))
        drawn = self.split.others.draw(len(pairs), self.random, again=True) if self.resample else None
        pairs = torch.cat([pairs, self.split.non_edges if drawn is None else drawn])
        if len(self) == 1:
            yield pairs, labels
            return
        order = torch.from_numpy(self.random.permutation(len(pairs)))
        for rows in torch.split(order, self.batch_size):
            yield pairs[rows], labels[rows]


class LinkEmbedding(L.LightningModule):
    """Node vectors whose inner products score undirected edges.

    Args:
        graph: edges and, by their absence, non-edges.
        dim: size of a vector.
        held_out: share of the edges that is kept for `auc`, with as many non-edges; 0 = none.
        resample: whether every epoch draws its non-edges anew; False, with nothing held out, is the course's.
        sides: where given, nodes below it are paired with nodes from it on and with no others, as users with items.
        batch_size: pairs of a step; smaller graphs take one step an epoch.
        lr: of SGD; None = 0.1, the step size of the course, times num_nodes / 34 on graphs larger than the course's:
            the loss is a mean over pairs, of which a node has a share that falls with their number.
        momentum: of SGD.
        seed: of everything random.
    """

    def __init__(
        self,
        graph: Graph,
        dim: int = 16,
        held_out: float = 0.1,
        resample: bool = True,
        sides: int | None = None,
        batch_size: int = BATCH,
        lr: float | None = None,
        momentum: float = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least(1, dim=dim, batch_size=batch_size)
        at_least(0, seed=seed)
        if lr is not None and not 0 < lr < float("inf"):
            raise RecloomError(f"lr must be above 0 and finite; found {lr}")
        if not 0 <= momentum < 1:
            raise RecloomError(f"momentum must be at least 0 and below 1; found {momentum}")
        self.lr = LR * max(1.0, graph.num_nodes / NODES) if lr is None else lr
        self.momentum = momentum
        self.split = split_edges(graph, held_out, seed, sides)
        self.batches = PairBatches(self.split, resample, batch_size, seed)
        self.nodes = nn.Embedding(graph.num_nodes, dim)
        nn.init.uniform_(self.nodes.weight, 0, 1, generator=torch.Generator().manual_seed(seed))
        self.known = torch.zeros(graph.num_nodes, dtype=torch.bool)
        """(N,) bool: has a training edge."""
        self.known[self.split.edges.reshape(-1)] = True

    def scores(self, pairs: Tensor) -> Tensor:
        """(P,) products z_u . z_v of (P, 2) pairs."""
        ends: Tensor = self.nodes(pairs)  # (P, 2, d)
        return (ends[:, 0] * ends[:, 1]).sum(1)

    def loss(self, pairs: Tensor, labels: Tensor) -> Tensor:
        """Mean binary cross-entropy of (P, 2) pairs with (P,) labels."""
        return binary_cross_entropy_with_logits(self.scores(pairs), labels)

    def accuracy(self) -> float:
        """Share of the training edges, and of as many non-edges for training, that are classified right."""
        found = self._measured(self.split.edges, self.split.non_edges) > 0
        return (found == (labelled(len(self.split.edges)) > 0)).float().mean().item()

    def auc(self) -> float:
        """On the held-out pairs: the chance that an edge scores above a non-edge; NaN where none are held out."""
        if not len(self.split.held_out):
            return float("nan")
        scores = self._measured(self.split.held_out, self.split.held_out_non_edges)
        return auc(scores, labelled(len(self.split.held_out))).item()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(*batch)
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.batches, batch_size=None)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr, self.momentum)

    def vectors(self) -> Tensor:
        """(N, dim) float32."""
        return self.nodes.weight.detach().cpu().clone()

    @torch.no_grad()
    def _measured(self, edges: Tensor, non_edges: Tensor) -> Tensor:
        """Scores of edges and non-edges, in blocks."""
        blocks = torch.split(torch.cat([edges, non_edges]), BATCH)
        return torch.cat([self.scores(block.to(self.device)).cpu() for block in blocks])


def labelled(edges: int) -> Tensor:
    """(2 * edges,) labels of so many edges and as many non-edges after them."""
    return (torch.arange(2 * edges) < edges).float()
