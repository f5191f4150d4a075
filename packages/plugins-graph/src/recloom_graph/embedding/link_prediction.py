"""The shallow embedding of Stanford's CS224W: vectors that tell edges from non-edges.

    p(u, v) = s(z_u . z_v),   L = mean binary cross-entropy over the edges and as many sampled non-edges

z starts uniform in [0, 1), so that every pair looks like an edge at first. Memorising all pairs is easy; what was
learnt shows on pairs that are held out. There a random guess has an AUC of 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import torch
from recloom.errors import RecloomError, at_least
from recloom.functional import auc
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, IterableDataset

from ..graph import Graph
from .edge_split import split_edges

LR, NODES = 0.1, 34
"""The step size of the course, and the nodes of its graph."""
BATCH = 1 << 16


class PairBatches(IterableDataset[tuple[Tensor, Tensor]]):
    """(B, 2) pairs and (B,) labels: all at once where they are few, else shuffled every epoch."""

    def __init__(self, pairs: Tensor, labels: Tensor, batch_size: int, seed: int) -> None:
        self.pairs, self.labels, self.batch_size = pairs, labels, batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.pairs) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if len(self) == 1:
            yield self.pairs, self.labels
            return
        order = torch.randperm(len(self.pairs), generator=self.generator)
        for rows in torch.split(order, self.batch_size):
            yield self.pairs[rows], self.labels[rows]


class LinkEmbedding(L.LightningModule):
    """Vectors of nodes whose products say which nodes are joined, whichever way an edge leads.

    Args:
        graph: edges and, by their absence, non-edges.
        dim: size of a vector.
        held_out: share of the edges that is kept for `auc`, with as many non-edges; 0 = none.
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
        pairs = torch.cat([self.split.edges, self.split.non_edges])
        self.batches = PairBatches(pairs, _labels(len(pairs)), batch_size, seed)
        self.nodes = nn.Embedding(graph.num_nodes, dim)
        nn.init.uniform_(self.nodes.weight, 0, 1, generator=torch.Generator().manual_seed(seed))
        self.known = torch.zeros(graph.num_nodes, dtype=torch.bool)
        """(N,) whether a node has an edge to learn from."""
        self.known[self.split.edges.reshape(-1)] = True

    def scores(self, pairs: Tensor) -> Tensor:
        """(P,) products z_u . z_v of (P, 2) pairs."""
        ends: Tensor = self.nodes(pairs)  # (P, 2, d)
        return (ends[:, 0] * ends[:, 1]).sum(1)

    def loss(self, pairs: Tensor, labels: Tensor) -> Tensor:
        """Mean binary cross-entropy of (P, 2) pairs with (P,) labels."""
        return binary_cross_entropy_with_logits(self.scores(pairs), labels)

    def accuracy(self) -> float:
        """Share of the training pairs that are told right."""
        right = (self._measured(self.batches.pairs) > 0) == (self.batches.labels > 0)
        return right.float().mean().item()

    def auc(self) -> float:
        """On the held-out pairs: the chance that an edge scores above a non-edge; NaN where none are held out."""
        if not len(self.split.held_out):
            return float("nan")
        pairs = torch.cat([self.split.held_out, self.split.held_out_non_edges])
        return auc(self._measured(pairs), _labels(len(pairs))).item()

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
    def _measured(self, pairs: Tensor) -> Tensor:
        """`scores`, in blocks."""
        return torch.cat([self.scores(block.to(self.device)).cpu() for block in torch.split(pairs, BATCH)])


def _labels(count: int) -> Tensor:
    """(count,) 1 for the first half, 0 for the second."""
    return (torch.arange(count) < count // 2).float()
