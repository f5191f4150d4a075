"""Synthetic graphs in OGB's layout whose class depends on their edges alone.

Half the nodes of a graph are of one colour, half of the other. Three quarters of the edges join nodes of one colour
(class 0) or of two (class 1); the numbers of nodes, colours and edges do not depend on the class.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SMALLEST, LARGEST = 5, 15
"""Nodes of each colour."""
SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}

Array = np.ndarray[Any, np.dtype[np.int64]]


def write(folder: Path, graphs: int = 1000, seed: int = 0) -> Path:
    """Write a set that `recloom fit --model GraphProperty --data FOLDER` learns; returns the folder."""
    drawn = np.random.default_rng(seed)
    halves, classes = drawn.integers(SMALLEST, LARGEST + 1, graphs), drawn.permutation(np.arange(graphs) % 2)
    colours = [drawn.permutation(np.arange(2 * half) % 2) for half in halves]
    edges = [_edges(colour, kind, drawn) for colour, kind in zip(colours, classes, strict=True)]
    tables = {
        "raw/edge": np.concatenate(edges),
        "raw/num-node-list": 2 * halves,
        "raw/num-edge-list": np.array([len(one) for one in edges]),
        "raw/node-feat": np.concatenate(colours),
        "raw/graph-label": classes,
    }
    ends = np.cumsum([round(share * graphs) for share in SHARES.values()])[:-1]
    for part, rows in zip(SHARES, np.split(drawn.permutation(graphs), ends), strict=True):
        tables[f"split/random/{part}"] = np.sort(rows)
    for name, values in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = pl.DataFrame(values.reshape(len(values), -1))
        path.write_bytes(gzip.compress(frame.write_csv(include_header=False).encode(), mtime=0))
    return folder


def _edges(colour: Array, kind: int, drawn: np.random.Generator) -> Array:
    """(2n, 2) different pairs of the (n,) coloured nodes, three quarters of them of the sort of the class."""
    pairs = np.stack(np.triu_indices(len(colour), 1), 1)
    same = colour[pairs[:, 0]] == colour[pairs[:, 1]]
    usual, other = pairs[same ^ bool(kind)], pairs[~same ^ bool(kind)]
    most = round(1.5 * len(colour))
    chosen = [drawn.permutation(usual)[:most], drawn.permutation(other)[: 2 * len(colour) - most]]
    return np.concatenate(chosen)
