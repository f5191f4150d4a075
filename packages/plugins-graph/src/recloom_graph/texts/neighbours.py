"""Sampling of training neighbours for prompts, a function of ids and a seed alone.

Every edge has a rank that is a hash of the seed and the ids of its two ends. So the sample of a node depends neither
on the order of rows nor on edges elsewhere, and responses in the ledger stay valid.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

Keys = np.ndarray[Any, np.dtype[np.uint64]]
Side = Literal["user_id", "item_id"]


@dataclass(frozen=True)
class Shown:
    """Neighbours of a node, sorted by id, and their rows in `interactions.parquet`."""

    ids: list[str]
    rows: list[int]


def sample_neighbours(train: pl.DataFrame, of: Side, limit: int, seed: int) -> dict[str, Shown]:
    """Up to `limit` neighbours of each node that has any, by id: sampled uniformly, without replacement.

    Args:
        train: `row`, `user_id` and `item_id` of the training part; a pair that occurs several times is one edge.
        of: the side whose neighbours are sampled.
    """
    other = "item_id" if of == "user_id" else "user_id"
    edges = train.group_by("user_id", "item_id").agg(pl.col("row").cast(pl.Int64).sort()).sort(of, other)
    edges = edges.with_columns(draw=pl.Series(_places(edges, seed)))
    kept = edges.filter(pl.col("draw").rank("ordinal").over(of) <= limit)
    grouped = kept.group_by(of, maintain_order=True).agg(other, pl.col("row").explode().sort())
    return {node: Shown(ids, rows) for node, ids, rows in grouped.iter_rows()}


def _places(edges: pl.DataFrame, seed: int) -> Keys:
    """(E,) a pseudo-random rank of each edge."""
    users, items = (_hashed(edges[name], f"{seed} {name} ") for name in ("user_id", "item_id"))
    mixed: Keys = users + items * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)  # the finaliser of SplitMix64
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _hashed(ids: pl.Series, salt: str) -> Keys:
    """(E,) a hash of each id, computed once for each distinct one."""
    names = ids.unique(maintain_order=True)
    digests = b"".join(hashlib.blake2b(f"{salt}{name}".encode(), digest_size=8).digest() for name in names)
    codes = ids.cast(pl.Enum(names)).to_physical().to_numpy()
    found: Keys = np.frombuffer(digests, "<u8").astype(np.uint64)[codes]
    return found
