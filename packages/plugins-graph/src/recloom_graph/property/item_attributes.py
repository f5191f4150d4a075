"""Attributes of items from the graph of co-occurrence: what `recloom graph predict` learns and measures.

Item i is node i; node 0 is padding and has neither edges nor labels.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import polars as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from recloom.data import Catalog
from recloom.errors import DataError
from recloom.training import (
    AtomicCheckpointIO,
    TrainingBar,
    interruptible,
    read_checkpoint,
    silence,
    stopped_by_sigterm,
)
from torch import Tensor

from ..graphs import sparse
from ..graphs.dataset_graphs import attributes
from ..graphs.graph import Graph
from .convolutions import Convolution
from .data_modules import InMemoryNodeData
from .labelled_graphs import NodeGraph, both_ways
from .node_property import NodeProperty, accuracy

TEST, VALID = 0.2, 0.1
"""Shares of the items with a known value that are held out."""
FEWEST = 20
"""Items with a known value, of which parts can be made."""


@dataclass
class AttributeValues:
    """The values of one attribute of the items.

    Attributes:
        names: (C) the different values.
        shares: (num_items + 1, C) float32; a row is 1 / n at each of an item's n values, all 0 where none is known.
    """

    names: list[str]
    shares: Tensor

    @property
    def items(self) -> Tensor:
        """(K,) items with a value."""
        return self.shares.sum(1).nonzero()[:, 0]

    @property
    def lacking(self) -> Tensor:
        """(M,) items without one."""
        found = (self.shares.sum(1) == 0).nonzero()[:, 0]
        return found[found > 0]


def attribute_values(catalog: Catalog, attribute: str) -> AttributeValues:
    """Read a column of the items; a text may hold several values between `|`.

    Raises DataError where the items have no such column, or values that are not shared by items.
    """
    graph = attributes(catalog, [attribute])
    first = catalog.num_items + 1
    items, values, _ = graph.edges()
    names = [name.partition(": ")[2] for name in graph.names[first:]]
    shares = torch.zeros(first, len(names))
    shares[items, values - first] = 1
    counts = shares.sum(1)
    known = int((counts > 0).sum())
    if known < FEWEST:
        raise DataError(
            f"{known} items have a value of {attribute!r}; at least {FEWEST} are needed to learn from and to measure"
        )
    if len(names) < 2 or 2 * len(names) > known:
        raise DataError(
            f"{attribute!r} has {len(names):,} different values for {known:,} items; expected at least two values, "
            "each shared by several items, such as genres"
        )
    return AttributeValues(names, shares / counts.clamp(min=1)[:, None])


def parts_of(known: AttributeValues, seed: int) -> dict[str, Tensor]:
    """Items with a value, split at random into `train`, `valid` and `test`."""
    order = known.items[torch.randperm(len(known.items), generator=torch.Generator().manual_seed(seed))]
    test, valid = (max(1, round(share * len(order))) for share in (TEST, VALID))
    return {"test": order[:test], "valid": order[test : test + valid], "train": order[test + valid :]}


def nearest_neighbours(graph: Graph, neighbours: int) -> Tensor:
    """(2, E) edges in both directions from every node to its `neighbours` closest, by w_ij / sqrt(d_i d_j)."""
    rows, columns, weights = sparse.entries(graph.symmetric)
    order = weights.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]  # by row, the closest first
    starts = graph.matrix.crow_indices().long()[rows[order]]
    kept = order[torch.arange(len(order)) - starts < neighbours]
    return both_ways(Graph(rows[kept], columns[kept], graph.num_nodes, directed=False))


def spectral_features(graph: Graph, dim: int, seed: int) -> Tensor:
    """(N, dim) eigenvectors of D^-1/2 A D^-1/2 with the largest eigenvalues, each of variance 1: structure alone."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import eigsh

    matrix = graph.symmetric
    parts = (part.numpy() for part in (matrix.values(), matrix.col_indices(), matrix.crow_indices()))
    start = np.random.default_rng(seed).standard_normal(graph.num_nodes).astype(np.float32)
    size = min(dim, graph.num_nodes - 2)
    _, vectors = eigsh(csr_matrix(tuple(parts), shape=tuple(matrix.shape)), k=size, v0=start, tol=1e-3)
    return torch.from_numpy((vectors * graph.num_nodes**0.5).astype(np.float32))


def shuffle_nodes(edges: Tensor, nodes: int, seed: int) -> Tensor:
    """The same edges with the nodes permuted; node 0 stays. A control: the graph without its information."""
    place = torch.cat([torch.zeros(1).long(), 1 + torch.randperm(nodes - 1, generator=_generator(seed))])
    found: Tensor = place[edges]
    return found


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class NetworkSettings:
    """How a network is built and trained, see NodeProperty."""

    conv: Convolution
    dim: int
    num_layers: int
    epochs: int
    seed: int


@dataclass
class PredictionResult:
    """Accuracies on held-out items: shares of those whose predicted value is one of theirs."""

    accuracy: float
    majority: float
    """The same of the most frequent value of the training items, for all."""
    most: str
    shuffled: float
    """The same where every item has the edges of another one."""
    held_out: int
    probabilities: Tensor
    """(num_items + 1, C)"""


def learn(
    edges: Tensor, vectors: Tensor | None, known: AttributeValues, settings: NetworkSettings
) -> PredictionResult:
    """Train on the items with a value, on the graph and on the shuffled one.

    Args:
        edges: (2, E) among items.
        vectors: (num_items + 1, F) of the items, such as those of their texts; None = spectral features.
        known: values of the items.
    """
    parts, nodes = parts_of(known, settings.seed), len(known.shares)
    truth = known.shares[parts["test"]]
    logits = []
    for ends in (edges, shuffle_nodes(edges, nodes, settings.seed)):
        features = _structure(ends, nodes, settings) if vectors is None else vectors
        logits.append(
            _trained(NodeGraph(features, ends, known.shares, parts, len(known.names), "drawn"), settings)
        )
    most = int((known.shares[parts["train"]] > 0).sum(0).argmax())
    return PredictionResult(
        accuracy=float(accuracy(logits[0][parts["test"]], truth)),
        majority=float((truth[:, most] > 0).float().mean()),
        most=known.names[most],
        shuffled=float(accuracy(logits[1][parts["test"]], truth)),
        held_out=len(truth),
        probabilities=logits[0].softmax(1),
    )


def _structure(edges: Tensor, nodes: int, settings: NetworkSettings) -> Tensor:
    return spectral_features(Graph(edges[0], edges[1], nodes, directed=False), settings.dim, settings.seed)


def _trained(graph: NodeGraph, settings: NetworkSettings) -> Tensor:
    """(N, C) logits of the network at the epoch of the lowest validation loss."""
    silence()
    L.seed_everything(settings.seed, verbose=False)
    module = NodeProperty(settings.conv, settings.dim, settings.num_layers, input_dropout=0.0)
    data = InMemoryNodeData(graph, "items", settings.seed)
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


def predictions(
    outcome: PredictionResult, known: AttributeValues, edges: Tensor, catalog: Catalog
) -> pl.DataFrame:
    """One row for each item without a value: its most likely one, how likely, and its number of neighbours."""
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
