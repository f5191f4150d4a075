"""Small datasets whose right answer is known, written as prepared datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from ..data.prepare.dataset import arrange, write_dataset
from ..data.readers import RawTables
from ..schemas import Source

DAY = 86_400
START = 1_500_000_000
"""Seconds: the first interaction of every toy."""
WORDS = ("amber", "birch", "coral", "delta", "ember", "fjord", "glade", "heron", "ivory", "jade")


def toy_dataset(
    folder: Path,
    *,
    num_users: int = 24,
    num_items: int = 30,
    seed: int = 0,
    held_out: int = 0,
    vectors: bool = False,
) -> Path:
    """Users with 5 to 12 different items each, at random; the two last of each user differ with `held_out`.

    Datasets that differ in `held_out` alone have the same catalogue, and the same training part when split
    by `last`. Every interaction has a value of 1 to 5 that depends on its user and item alone, and these values are
    the dataset's events: `history_event` counts them.
    With `vectors` users and items have vectors.

    Returns the folder of the prepared dataset.
    """
    random, later = np.random.default_rng(seed), np.random.default_rng([seed, held_out])
    rows = []
    for user in range(num_users):
        items = random.permutation(num_items)[: random.integers(5, 13)]
        unused = np.setdiff1d(np.arange(num_items), items[:-2])
        items[-2:] = later.permutation(unused)[:2]
        rows += [(user, item, START + (user + num_users * at) * DAY) for at, item in enumerate(items)]
    titles = [f"{WORDS[n % 10]} {WORDS[n // 10 % 10]} {n}" for n in range(num_items)]
    return write_toy(folder, rows, titles, [1 + (7 * user + 3 * item) % 5 for user, item, _ in rows], vectors)


def checkerboard(
    folder: Path, *, num_users: int = 40, num_items: int = 20, seed: int = 0, rated: bool = False,
    vectors: bool = False,
) -> Path:  # fmt: skip
    """Users and items of two colours, by the parity of their number; users choose items of their colour.

    Each user has all items of the colour but the two held out by the split `last`, in random order, so a
    recommender that has learnt anything ranks those two above every item of the other colour. Titles say
    the colour. With `rated` each user has the items of the other colour too, before the last two: they have
    value 1, those of the user's colour 5. With `vectors` users and items have vectors, which say nothing.

    Returns the folder of the prepared dataset.
    """
    random = np.random.default_rng(seed)
    rows = []
    for user in range(num_users):
        items = random.permutation(np.arange(user % 2, num_items, 2))
        if rated:
            others = np.arange(1 - user % 2, num_items, 2)
            items = np.concatenate([random.permutation(np.concatenate([items[:-2], others])), items[-2:]])
        rows += [(user, item, START + (user + num_users * at) * DAY) for at, item in enumerate(items)]
    values = [5 if item % 2 == user % 2 else 1 for user, item, _ in rows] if rated else None
    return write_toy(
        folder, rows, [f"{('white', 'black')[n % 2]} field {n}" for n in range(num_items)], values, vectors
    )


def cyclic_dataset(folder: Path, n: int, *, num_users: int = 40, length: int = 12, seed: int = 0) -> Path:
    """Items in a circle: every user starts anywhere, and item i is always followed by item i + 1 modulo n.

    Returns the folder of the prepared dataset.
    """
    random = np.random.default_rng(seed)
    rows = []
    for user, first in enumerate(random.integers(0, n, num_users)):
        rows += [(user, (first + at) % n, START + (user + num_users * at) * DAY) for at in range(length)]
    return write_toy(folder, rows, [f"station {n}" for n in range(n)])


def write_toy(
    folder: Path,
    rows: list[tuple[int, int, int]],
    titles: list[str],
    values: list[int] | None = None,
    vectors: bool = False,
) -> Path:
    """Write (user, item, seconds) rows and a title per item as a prepared dataset; item n is `i<n>`.

    With `vectors` every user and item but the last has a random one.
    """
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").select(
        pl.format("u{}", "user_id").alias("user_id"),
        pl.format("i{}", "item_id").alias("item_id"),
        pl.col("timestamp").cast(pl.Int64),
        line=pl.int_range(1, pl.len() + 1),
    )
    if values is not None:
        frame = frame.with_columns(pl.Series("value", values, dtype=pl.Float32))
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(len(titles))], "title": titles})
    users = frame.select(pl.col("user_id").unique(maintain_order=True))
    if vectors:
        items, users = (table.with_columns(_vectors(len(table))) for table in (items, users))
    raw = RawTables(frame, [Path("toy")], items=items, users=users if vectors else None)
    data = arrange(raw, keep_all_items=True)
    write_dataset(
        data, folder, name=folder.name, source=Source(reader="toy"), licence="invented data, free to use"
    )
    return folder


def _vectors(count: int) -> pl.Series:
    """A vector of 8 random numbers for each row but the last, which has none."""
    drawn = np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)
    return pl.Series("vector", [*drawn[:-1].tolist(), None], dtype=pl.List(pl.Float32))
