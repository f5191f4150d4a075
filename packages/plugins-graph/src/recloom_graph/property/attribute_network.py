"""Trains NodeProperty on the attributes of items, measures it on held-out ones, and predicts the rest."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import polars as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from recloom.data import Catalog
from recloom.training import (
    AtomicCheckpointIO,
    TrainingBar,
    interruptible,
    read_checkpoint,
    silence,
    stopped_by_sigterm,
)
from torch import Tensor

from ..graphs.graph import Graph
from .convolutions import Convolution
from .item_attributes import KnownValues, parts_of, shuffled, spectral
from .node_data import GivenNodes
from .node_graph import NodeGraph
from .node_property import NodeProperty, accuracy


@dataclass(frozen=True)
class Settings:
    """How a network is built and trained, see NodeProperty."""

    conv: Convolution
    dim: int
    num_layers: int
    epochs: int
    seed: int


@dataclass
class Outcome:
    """What came of it: accuracy is the share of held-out items whose most likely value is one of theirs."""

    accuracy: float
    majority: float
    """The same of the most frequent value of the training items, for all."""
    most: str
    shuffled: float
    """The same where every item has the edges of another one."""
    held_out: int
    probabilities: Tensor
    """(num_items + 1, C)"""


def learn(edges: Tensor, vectors: Tensor | None, known: KnownValues, settings: Settings) -> Outcome:
    """Train on the items with a value, on the graph and on the shuffled one.

    Args:
        edges: (2, E) among items.
        vectors: (num_items + 1, F) of the items, such as those of their texts; None = what the graph itself tells.
        known: values of the items.
    """
    parts, nodes = parts_of(known, settings.seed), len(known.shares)
    truth = known.shares[parts["test"]]
    logits = []
    for ends in (edges, shuffled(edges, nodes, settings.seed)):
        features = _structure(ends, nodes, settings) if vectors is None else vectors
        logits.append(
            _trained(NodeGraph(features, ends, known.shares, parts, len(known.names), "drawn"), settings)
        )
    most = int((known.shares[parts["train"]] > 0).sum(0).argmax())
    return Outcome(
        accuracy=float(accuracy(logits[0][parts["test"]], truth)),
        majority=float((truth[:, most] > 0).float().mean()),
        most=known.names[most],
        shuffled=float(accuracy(logits[1][parts["test"]], truth)),
        held_out=len(truth),
        probabilities=logits[0].softmax(1),
    )


def _structure(edges: Tensor, nodes: int, settings: Settings) -> Tensor:
    return spectral(Graph(edges[0], edges[1], nodes, directed=False), settings.dim, settings.seed)


def _trained(graph: NodeGraph, settings: Settings) -> Tensor:
    """(N, C) logits of the network at the epoch of the lowest validation loss."""
    silence()
    L.seed_everything(settings.seed, verbose=False)
    module = NodeProperty(settings.conv, settings.dim, settings.num_layers, input_dropout=0.0)
    data = GivenNodes(graph, "items", settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, "best", monitor="val/loss")  # accuracy of few items has ties
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=settings.epochs, logger=False,
            callbacks=[best, TrainingBar()], plugins=[AtomicCheckpointIO()], enable_model_summary=False,
            num_sanity_val_steps=0,
        )  # fmt: skip
        with stopped_by_sigterm(), interruptible():
            trainer.fit(module, data)
        module.load_state_dict(read_checkpoint(Path(best.best_model_path))["state_dict"])
    with torch.inference_mode():
        found: Tensor = module.eval()(graph)
    return found


def predictions(outcome: Outcome, known: KnownValues, edges: Tensor, catalog: Catalog) -> pl.DataFrame:
    """One row for each item without a value: its most likely one, how likely, and how many neighbours told so."""
    items = known.lacking
    confidence, values = outcome.probabilities[items].max(1)
    neighbours = torch.bincount(edges[0], minlength=len(known.shares))[items]
    return pl.DataFrame(
        {
            "item_id": catalog.items["item_id"].gather((items - 1).numpy()),
            "value": pl.Series(known.names, dtype=pl.String).gather(values.numpy()),
            "confidence": confidence.numpy(),
            "neighbours": neighbours.numpy(),
        }
    ).sort("confidence", descending=True, maintain_order=True)
