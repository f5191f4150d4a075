"""Orders of raw ids that depend on the ids alone: by the numbers in them, and by a hash of their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

Keys = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]

STEP = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = 1 << 18
"""Ids hashed at a time: 8 bytes of memory for each of their bytes."""


def natural_order(ids: pl.Series) -> Places:
    """(N,) places of the ids sorted by what stands before their first number, by that number, then as text."""
    numbered = pl.DataFrame({
        "before": ids.str.extract(r"^([^0-9]*)"),
        "number": ids.str.extract(r"^[^0-9]*([0-9]{1,18})").cast(pl.Int64),
        "id": ids,
    })  # fmt: skip
    order = numbered.select(pl.arg_sort_by("before", "number", "id")).to_series()
    return order.to_numpy().astype(np.int64)


def hash_ranks(ids: pl.Series) -> Places:
    """(N,) each id's place, from 0, in the order of their hashes: breaks ties without regard to where an id stands."""
    ranks = np.empty(len(ids), np.int64)
    ranks[np.argsort(id_hashes(ids), kind="stable")] = np.arange(len(ids))
    return ranks


def mix(values: Keys) -> Keys:
    """splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014): 64 bits that depend on all bits of each value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def id_hashes(ids: pl.Series) -> Keys:
    """(N,) 64-bit hashes of ids by their UTF-8 bytes and nothing else: the same on every machine, in every order.

    The sum over bytes of mix(256 place + byte + step), mixed with the number of bytes; arithmetic modulo 2^64.
    """
    blocks = [_hashed(ids.slice(i, _BLOCK)) for i in range(0, len(ids), _BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)


def _hashed(ids: pl.Series) -> Keys:
    lengths = ids.str.len_bytes().to_numpy().astype(np.int64)
    text = ids.alias("id").to_frame().select(pl.col("id").str.join("")).item()
    data = np.frombuffer(text.encode(), np.uint8).astype(np.uint64)
    starts = np.cumsum(lengths) - lengths
    place = (np.arange(len(data)) - np.repeat(starts, lengths)).astype(np.uint64)
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(mix((place << np.uint64(8)) + data + STEP), out=sums[1:])
    return mix(sums[starts + lengths] - sums[starts] + lengths.astype(np.uint64) * STEP)
