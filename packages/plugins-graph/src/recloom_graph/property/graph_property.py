"""GraphProperty: classification of whole graphs, such as whether a molecule inhibits a virus."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from recloom.errors import RecloomError, at_least
from recloom.metrics import auc
from recloom.training import TaskModule
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from .convolutions import Convolution, Convolutions
from .data_modules import GraphData
from .labelled_graphs import GraphBatch, GraphSet

Pooling = Literal["mean", "sum", "max"]


class GraphNetwork(nn.Module):
    """Features to vectors, convolutions, pooling over the nodes of each graph, one linear layer.

    Args:
        categories: of each column of categorical features, whose embeddings are added up; empty = real values.
        num_features: columns.
        num_outputs: classes or tasks.
        dim: size of all vectors.
        pooling: of the nodes of a graph.
        convolutions: `dim` to `dim`.
    """

    starts: Tensor

    def __init__(
        self,
        categories: list[int],
        num_features: int,
        num_outputs: int,
        dim: int,
        pooling: Pooling,
        convolutions: Convolutions,
    ) -> None:
        super().__init__()
        starts = torch.tensor([0, *categories[:-1]]).cumsum(0)
        self.register_buffer("starts", starts, persistent=False)  # (F,) of a column in the table of all
        self.enter = nn.Embedding(sum(categories), dim) if categories else nn.Linear(num_features, dim)
        self.convolutions, self.pooling = convolutions, pooling
        self.leave = nn.Linear(dim, num_outputs)

    def forward(self, batch: GraphBatch) -> Tensor:
        """(B, num_outputs) logits."""
        found: Tensor = self.leave(self.embeddings(batch))
        return found

    def embeddings(self, batch: GraphBatch) -> Tensor:
        """(B, dim) vectors of the graphs."""
        if isinstance(self.enter, nn.Embedding):
            x = self.enter(batch.features + self.starts).sum(1)  # (N, F, dim) to (N, dim)
        else:
            x = self.enter(batch.features)
        return pool(self.convolutions(x, batch.edges), batch.graph, len(batch.labels), self.pooling)


def pool(x: Tensor, graph: Tensor, graphs: int, how: Pooling) -> Tensor:
    """(B, dim) mean, sum or maximum of the (N, dim) rows of each graph; 0 for a graph without nodes."""
    if how == "max":
        rows = graph[:, None].expand_as(x)
        return x.new_zeros(graphs, x.shape[1]).scatter_reduce(0, rows, x, "amax", include_self=False)
    found = x.new_zeros(graphs, x.shape[1]).index_add(0, graph, x)
    if how == "sum":
        return found
    return found / torch.bincount(graph, minlength=graphs).clamp(min=1)[:, None]


class GraphProperty(TaskModule):
    """Predicts a class of every graph, or several yes-or-no properties, with graph convolutions.

    Columns of whole numbers are read as categories, as the atoms of OGB are; other columns are read as real values.

    Args:
        metric: what is measured, and so what is learnt: `accuracy` of one class, by cross entropy; or `roc_auc`, the
            mean over tasks of yes or no, by binary cross entropy over the labels that are known.
        conv: `GCN`, `SAGE` or `GAT`.
        dim: size of all vectors.
        num_layers: convolutions.
        pooling: of the nodes of a graph: `mean`, `sum` or `max`.
        dropout: between convolutions.
        batch_norm: whether values are normalised between convolutions.
        heads: of GAT; they divide `dim`.
        lr: learning rate of Adam.
        weight_decay: of Adam.
    """

    data_class = GraphData
    monitor = "val/{metric}"
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.max_epochs": 100,
        "early_stopping.patience": 30,
        "early_stopping.patience_steps": 0,
    }

    def __init__(
        self,
        metric: Literal["accuracy", "roc_auc"] = "accuracy",
        conv: Convolution = "GCN",
        dim: int = 256,
        num_layers: int = 5,
        pooling: Pooling = "mean",
        dropout: float = 0.5,
        batch_norm: bool = True,
        heads: int = 8,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        at_least(0, weight_decay=weight_decay)
        if not 0 < lr < float("inf"):
            raise RecloomError(f"lr must be above 0 and finite; found {lr}. Try 0.001.")
        self.options: dict[str, Any] = {
            "conv": conv, "num_layers": num_layers, "dropout": dropout, "batch_norm": batch_norm, "heads": heads,
        }  # fmt: skip
        self.metric, self.dim, self.pooling = metric, dim, pooling
        self.lr, self.weight_decay = lr, weight_decay
        self.network: GraphNetwork | None = None
        self._seen: list[tuple[Tensor, Tensor]] = []

    def configure_model(self) -> None:
        if self.network is None:
            assert isinstance(self.data, GraphData)
            self.build(self.data.graphs)

    def build(self, graphs: GraphSet) -> None:
        """Make the layers for graphs like these. Raises RecloomError where their labels do not fit the metric."""
        layers = Convolutions(self.dim, self.dim, self.dim, **self.options)
        columns, outputs = graphs.features.shape[1], num_outputs(graphs.labels, self.metric)
        self.network = GraphNetwork(graphs.categories, columns, outputs, self.dim, self.pooling, layers)

    def forward(self, batch: GraphBatch) -> Tensor:
        """(B, C) or (B, T) logits."""
        if self.network is None:
            raise RecloomError("GraphProperty has no layers yet: fit it, or call build(graphs)")
        found: Tensor = self.network(batch)
        return found

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def training_step(self, batch: GraphBatch, batch_idx: int) -> Tensor:
        loss = self._loss(self(batch), batch.labels)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch.labels))
        return loss

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.metric == "accuracy":
            return cross_entropy(logits, labels[:, 0].long())
        known = labels == labels
        if not bool(known.any()):  # no label in this batch: no gradient, and no NaN
            return logits.sum() * 0
        return binary_cross_entropy_with_logits(logits[known], labels[known])

    def on_validation_epoch_start(self) -> None:
        self._seen = []

    def on_test_epoch_start(self) -> None:
        self._seen = []

    def validation_step(self, batch: GraphBatch, batch_idx: int) -> None:
        self._seen.append((self(batch), batch.labels))

    def test_step(self, batch: GraphBatch, batch_idx: int) -> None:
        self._seen.append((self(batch), batch.labels))

    def on_validation_epoch_end(self) -> None:
        self._measure("val")

    def on_test_epoch_end(self) -> None:
        self._measure("test")

    def _measure(self, prefix: str) -> None:
        """Over the whole part at once: a ROC-AUC is no mean of batches."""
        logits, labels = (torch.cat(found) for found in zip(*self._seen, strict=True))
        if self.metric == "accuracy":
            value = (logits.argmax(1) == labels[:, 0]).float().mean()
        else:
            value = mean_auc(logits, labels)
        self.log(f"{prefix}/{self.metric}", value, prog_bar=True)
        self.log(f"{prefix}/loss", self._loss(logits, labels))


def num_outputs(labels: Tensor, metric: str) -> int:
    """Classes or tasks of (G, T) labels. Raises RecloomError where these are not what the metric measures."""
    known = labels[labels == labels]
    if metric == "roc_auc":
        if not bool(((known == 0) | (known == 1)).all()):
            raise RecloomError(
                f"--model.metric roc_auc needs labels 0 and 1; found {float(known.max()):g}. Use --model.metric "
                "accuracy for classes."
            )
        return labels.shape[1]
    whole = bool((known == known.round()).all()) and bool((known >= 0).all())
    if labels.shape[1] != 1 or len(known) < len(labels) or not whole:
        raise RecloomError(
            "--model.metric accuracy needs one class, 0, 1, 2, ..., for each graph; found "
            f"{labels.shape[1]} columns, {labels.numel() - len(known)} of whose labels are missing. Use --model.metric "
            "roc_auc for properties that hold or not."
        )
    return int(known.max()) + 1


def mean_auc(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of the ROC-AUC of (G, T) logits over the tasks that have both labels, as OGB takes it."""
    found = []
    for task in range(labels.shape[1]):
        known = labels[:, task] == labels[:, task]
        found.append(auc(logits[known, task], labels[known, task]))
    return torch.stack(found).nanmean()
