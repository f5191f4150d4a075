"""Contrastive losses between two views of the same graph, added to a ranking loss.

    L = L_rank + weight * (InfoNCE(users of the batch) + InfoNCE(items of the batch))

NoisyViews      both views are moved by noise after each layer (SimGCL: Yu et al., "Are Graph Augmentations
                Necessary?", SIGIR 2022)
DroppedEdges    both views lack edges drawn at random, and are normalised by the remaining degrees (SGL: Wu et al.,
                "Self-supervised Graph Learning for Recommendation", SIGIR 2021, edge dropout)

The ranking loss sees the whole graph without noise. Users and items of a batch count once, however often they occur.

Unlike the papers and the authors' code:
* InfoNCE is a mean over distinct users and over distinct items, so that `weight` does not depend on the batch; SGL's
  code sums over the pairs of a batch, where a node counts as often as it occurs.
* SGL's softmax runs over all users and over all items of the graph. The default here is those of the batch, whose cost
  does not grow with the graph, as in SimGCL: `DroppedEdges(pool="all")` is SGL's.
* SGL drops nodes or edges, or walks at random; here it drops edges, which did best in most of its
  paper's comparisons.
* The penalty on the size of vectors is that of the ranking loss (layer 0 of the batch), averaged over its pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
from recloom.batch import Batch
from recloom.data import Interactions
from recloom.errors import RecloomError, at_least
from recloom.losses import BPR, Loss
from recloom.recommender import Recommender
from torch import Tensor

from ..graphs import sparse
from ..graphs.backends import Product
from ..models.lightgcn import LightGCN
from .info_nce import require_graph_model, require_positive, view_contrast


class ViewContrast(Loss):
    """A ranking loss plus InfoNCE between the two views of `views`.

    Args:
        base: the ranking loss; None = `BPR(l2=1e-4)`.
        weight: of the contrast; 0 leaves the ranking loss as it is.
        temperature: of InfoNCE.
    """

    def __init__(self, base: Loss | None, weight: float, temperature: float) -> None:
        super().__init__()
        at_least(0, weight=weight)
        require_positive("temperature", temperature)
        self.base: Loss = BPR(l2=1e-4) if base is None else base
        self.weight, self.temperature = weight, temperature

    def fit(self, interactions: Interactions) -> None:
        self.base.fit(interactions)

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        loss: Tensor = self.base(recommender, batch)
        if not self.weight:
            return loss
        model = require_graph_model(recommender, self)
        one, other = self.views(model, batch)
        users, items = torch.unique(batch.user), model.num_users + 1 + torch.unique(batch.labels[:, 0])
        return loss + self.weight * sum(
            (
                view_contrast(one, other, nodes, self.temperature, pool)
                for nodes, pool in zip((users, items), self.pools(model, users.device), strict=True)
            ),
            loss.new_zeros(()),
        )

    def pools(self, model: LightGCN, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """(M,) users and (M,) items that those of a batch are told apart from; None = those of the batch."""
        return None, None

    def views(self, model: LightGCN, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two (N, d) tables of final vectors."""
        raise NotImplementedError(f"{type(self).__name__} must define views(model, batch)")


class NoisyViews(ViewContrast):
    """SimGCL's loss: two views whose vectors take a random step of length `noise` after each layer.

    Args:
        base: the ranking loss; None = `BPR(l2=1e-4)`.
        weight: of the contrast; 0 leaves the ranking loss as it is.
        temperature: of InfoNCE.
        noise: length of the step, in the direction of a random vector of the same signs.
    """

    def __init__(
        self, base: Loss | None = None, weight: float = 0.5, temperature: float = 0.2, noise: float = 0.1
    ) -> None:
        super().__init__(base, weight, temperature)
        require_positive("noise", noise)
        self.noise = noise

    def views(self, model: LightGCN, batch: Batch) -> tuple[Tensor, Tensor]:
        return model.view(noise=self.noise), model.view(noise=self.noise)


class DroppedEdges(ViewContrast):
    """SGL's loss with edge dropout: two views of the graph, drawn anew every epoch.

    Args:
        base: the ranking loss; None = `BPR(l2=1e-4)`.
        weight: of the contrast; 0 leaves the ranking loss as it is.
        temperature: of InfoNCE.
        drop: share of the edges that a view lacks.
        pool: what a user or item of the batch is told apart from: those of the `batch`, or `all` users and all items
            of the graph, as in the paper, at a cost that grows with the graph.
    """

    progress: Tensor
    """(2,) int64: pairs seen since the views were drawn, and the seed they were drawn with."""

    def __init__(
        self,
        base: Loss | None = None,
        weight: float = 0.1,
        temperature: float = 0.2,
        drop: float = 0.1,
        pool: Literal["batch", "all"] = "batch",
    ) -> None:
        super().__init__(base, weight, temperature)
        if not 0 < drop < 1:
            raise RecloomError(f"drop must be above 0 and below 1; found {drop}")
        self.drop, self.pool, self.epoch = drop, pool, 0
        self.register_buffer("progress", torch.zeros(2, dtype=torch.long))
        self._drawn: tuple[int, Product, Product] | None = None

    def fit(self, interactions: Interactions) -> None:
        super().fit(interactions)
        self.epoch = len(interactions)

    def pools(self, model: LightGCN, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        if self.pool == "batch":
            return None, None
        first = model.num_users + 1  # the node of the padding item
        users, items = torch.arange(1, first), torch.arange(first + 1, first + 1 + model.num_items)
        return users.to(device), items.to(device)

    def views(self, model: LightGCN, batch: Batch) -> tuple[Tensor, Tensor]:
        seen, seed = self.progress.tolist()
        if not seed or seen >= self.epoch:
            seen, seed = 0, int(torch.randint(1, 2**62, ()))
        self.progress = torch.tensor([seen + len(batch), seed], device=self.progress.device)
        if self._drawn is None or self._drawn[0] != seed:
            generator = torch.Generator().manual_seed(seed)
            matrix = model.graph.matrix()
            one, other = (model.product(drop_edges(matrix, self.drop, generator)) for _ in range(2))
            self._drawn = seed, one, other
        _, one, other = self._drawn
        return model.view(one), model.view(other)


def drop_edges(matrix: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A symmetric CSR matrix less a random share of its edges, normalised by the remaining degrees."""
    rows, columns, _ = sparse.entries(matrix)
    once = rows < columns
    rows, columns = rows[once], columns[once]
    kept = torch.randperm(len(rows), generator=generator)[: len(rows) - int(share * len(rows))]
    half = sparse.csr(rows[kept].cpu(), columns[kept].cpu(), matrix.shape[0])
    return sparse.symmetric(sparse.mirrored(half)).to(matrix.device)
