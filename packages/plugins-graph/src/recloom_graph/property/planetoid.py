"""Reader of Cora, CiteSeer and PubMed as Planetoid publishes them (Yang et al., ICML 2016), with its standard split.

`ind.NAME.x` are the features of the training nodes, `allx` those of all but the test nodes, `tx` those of the test
nodes in the order of `test.index`; `y`, `ally` and `ty` are labels, one-hot; `graph` maps nodes to neighbours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from recloom.errors import DataError

from ..graphs.graph import Graph
from .labelled_graphs import NodeGraph, both_ways
from .planetoid_pickle import read_array, read_csr, read_neighbours

VALID = 500
"""Nodes after the training nodes that the standard split validates on."""
MOST = 2**30
"""Features that are held as they are, zeros too: 4 GB."""


def is_planetoid(folder: Path, name: str) -> bool:
    """Whether the folder holds the set of that name in this format."""
    return bool(name) and (folder / f"ind.{name}.allx").is_file()


def read_planetoid(folder: Path, name: str) -> NodeGraph:
    """Read the set; features are divided by their sum in every row, edges are there in both directions, without loops.

    A test node that `test.index` leaves out (CiteSeer has 15) has no features, no label and no part.
    Raises DataError where a file is missing, refused or does not fit the others.
    """
    of = {part: folder / f"ind.{name}.{part}" for part in ("y", "allx", "tx", "ally", "ty", "graph")}
    test = _test_index(folder / f"ind.{name}.test.index")
    first, size = int(test.min()), int(test.max()) + 1
    known, unknown = read_csr(of["allx"]), read_csr(of["tx"])
    labels, test_labels = read_array(of["ally"]), read_array(of["ty"])
    trained = len(read_array(of["y"]))
    rows = {"allx": known.shape[0], "ally": len(labels), "test.index": first}
    rows_fit = len(set(rows.values())) == 1 and unknown.shape[0] == len(test_labels) == len(test)
    if not rows_fit or trained > first:
        raise DataError(
            f"the files ind.{name}.* in {folder} do not fit each other: rows of {rows}, {unknown.shape[0]} of tx, "
            f"{len(test_labels)} of ty, {trained} of y, {len(test)} test nodes. Fetch all of them again."
        )
    if known.shape[1] != unknown.shape[1] or labels.ndim != 2 or labels.shape[1:] != test_labels.shape[1:]:
        raise DataError(
            f"the files ind.{name}.* in {folder} do not fit each other: expected as many columns in tx as in allx, "
            f"and in ty as in ally; found {unknown.shape[1]} and {known.shape[1]}, {test_labels.shape[1:]} and "
            f"{labels.shape[1:]}. Fetch all of them again."
        )
    if size * known.shape[1] > MOST:
        raise DataError(
            f"{of['allx']}: {known.shape[1]:,} features of {size:,} nodes are too many to be held; expected at most "
            f"{MOST:,} in all. Take a smaller set."
        )
    features = np.zeros((size, known.shape[1]), np.float32)
    features[:first], features[test] = known.toarray(), unknown.toarray()
    classes = np.full(size, -1, np.int64)
    classes[:first], classes[test] = _classes(labels), _classes(test_labels)
    nodes, others = read_neighbours(of["graph"])
    parts = {
        "train": torch.arange(trained),
        "valid": torch.arange(trained, min(trained + VALID, first)),
        "test": torch.from_numpy(np.sort(test)),
    }
    apart = nodes != others
    edges = both_ways(
        Graph(torch.from_numpy(nodes[apart]), torch.from_numpy(others[apart]), size, directed=False)
    )
    return NodeGraph(
        torch.from_numpy(_by_row(features)),
        edges,
        torch.from_numpy(classes),
        parts,
        labels.shape[1],
        "planetoid",
    )


def _test_index(path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    try:
        found = np.array(path.read_text("ascii").split(), np.int64)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} holds no node numbers ({error}). Fetch the file again.") from error
    if not found.size or len(np.unique(found)) < len(found) or found.min() < 0:
        raise DataError(
            f"{path}: expected different node numbers from 0 on, one a line; found {found.size} of them. Fetch the "
            "file again."
        )
    low, high = int(found.min()), int(found.max())
    if (high - low) // 2 >= len(found):
        raise DataError(
            f"{path}: expected most of the nodes {low} to {high}, which are the last ones of the graph; found "
            f"{len(found)} of them. Fetch the file again."
        )
    return found


def _classes(one_hot: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(N,) classes of (N, C) rows; -1 where a row is empty."""
    found: np.ndarray[Any, np.dtype[np.int64]] = np.where(one_hot.any(1), one_hot.argmax(1), -1)
    return found


def _by_row(features: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    sums = features.sum(1, keepdims=True)
    return (features / np.where(sums > 0, sums, 1)).astype(np.float32)
