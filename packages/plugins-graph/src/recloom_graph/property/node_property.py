"""NodeProperty: classification of the nodes of one graph."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from recloom.errors import RecloomError, at_least
from recloom.training import TaskModule
from torch import Tensor
from torch.nn.functional import cross_entropy

from .convolutions import Activation, Convolution, Convolutions
from .data_modules import NodeData
from .labelled_graphs import NodeGraph


class NodeProperty(TaskModule):
    """Predicts a class of every node with graph convolutions, from features and edges of the whole graph.

    It learns from the labels of the training nodes by cross entropy; the epoch of the best validation accuracy is
    tested. The defaults are those of GCN on Cora (Kipf and Welling, ICLR 2017). Unlike there:

    * Weight decay is on all layers; the paper's is on the first: `decay_layers`.
    * The best of 200 epochs by validation accuracy is kept. The paper ends after 10 epochs in which the validation
      loss did not fall, and keeps the last: `--early_stopping.monitor val/loss --early_stopping.mode min
      --early_stopping.patience 10`, and `--checkpoint.monitor val/loss --checkpoint.mode min` for the lowest.

    Args:
        conv: `GCN`, `SAGE` or `GAT`.
        dim: size of the vectors between convolutions.
        num_layers: convolutions.
        dropout: between convolutions.
        input_dropout: of the features.
        batch_norm: whether values are normalised between convolutions.
        heads: of GAT; they divide `dim`.
        activation: between convolutions, `relu`, or `elu` as in GAT's paper.
        lr: learning rate of Adam.
        weight_decay: of Adam, which adds it to the gradient.
        decay_layers: the layers that decay: `all`, or the `first` alone as in GCN's paper.
    """

    data_class = NodeData
    monitor = "val/accuracy"
    defaults: ClassVar[dict[str, Any]] = {
        "trainer.max_epochs": 200,
        "trainer.log_every_n_steps": 1,
        "early_stopping.patience": 100,
        "early_stopping.patience_steps": 0,  # an epoch is a step
    }

    def __init__(
        self,
        conv: Convolution = "GCN",
        dim: int = 16,
        num_layers: int = 2,
        dropout: float = 0.5,
        input_dropout: float = 0.5,
        batch_norm: bool = False,
        heads: int = 8,
        activation: Activation = "relu",
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        decay_layers: Literal["all", "first"] = "all",
    ) -> None:
        super().__init__()
        at_least(0, weight_decay=weight_decay)
        if not 0 < lr < float("inf"):
            raise RecloomError(f"lr must be above 0 and finite; found {lr}. Try 0.01.")
        self.options: dict[str, Any] = {
            "conv": conv, "num_layers": num_layers, "dropout": dropout, "input_dropout": input_dropout,
            "batch_norm": batch_norm, "heads": heads, "activation": activation,
        }  # fmt: skip
        self.dim, self.lr, self.weight_decay, self.decay_layers = dim, lr, weight_decay, decay_layers
        self.network: Convolutions | None = None

    def configure_model(self) -> None:
        if self.network is None:
            graph = self._data().graph
            self.build(graph.features.shape[1], graph.num_classes)

    def build(self, num_features: int, num_classes: int) -> None:
        """Make the layers; their weights are new."""
        self.network = Convolutions(num_features, self.dim, num_classes, **self.options)

    def forward(self, graph: NodeGraph) -> Tensor:
        """(N, C) logits."""
        found: Tensor = self._network()(graph.features, graph.edges)
        return found

    def embeddings(self, graph: NodeGraph) -> Tensor:
        """(N, dim) vectors of the nodes: what enters the last convolution; of one layer, the features."""
        return self._network().before_last(graph.features, graph.edges)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.decay_layers == "all":
            return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        first = list(self._network().convs[0].parameters())
        rest = [weight for weight in self.parameters() if all(weight is not one for one in first)]
        groups: list[dict[str, Any]] = [
            {"params": first, "weight_decay": self.weight_decay},
            {"params": rest},
        ]
        return torch.optim.Adam(groups, lr=self.lr, weight_decay=0.0)

    def training_step(self, batch: NodeGraph, batch_idx: int) -> Tensor:
        nodes = batch.parts["train"]
        loss = cross_entropy(self(batch)[nodes], batch.labels[nodes])
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(nodes))
        return loss

    def validation_step(self, batch: NodeGraph, batch_idx: int) -> None:
        self._measure(batch, "valid", "val")

    def test_step(self, batch: NodeGraph, batch_idx: int) -> None:
        self._measure(batch, "test", "test")

    def _measure(self, graph: NodeGraph, part: str, prefix: str) -> None:
        nodes = graph.parts[part]
        logits, labels = self(graph)[nodes], graph.labels[nodes]
        self.log(f"{prefix}/accuracy", accuracy(logits, labels), prog_bar=True, batch_size=len(nodes))
        self.log(f"{prefix}/loss", cross_entropy(logits, labels), batch_size=len(nodes))

    def _network(self) -> Convolutions:
        if self.network is None:
            raise RecloomError(
                "NodeProperty has no layers yet: fit it, or call build(num_features, num_classes)"
            )
        return self.network

    def _data(self) -> NodeData:
        data = self.data
        assert isinstance(data, NodeData)
        return data


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of (N, C) rows whose largest value is at the (N,) class, or at one of the (N, C) classes."""
    best = logits.argmax(1)
    right = best == labels if labels.dim() == 1 else labels.gather(1, best[:, None])[:, 0] > 0
    return right.float().mean()
