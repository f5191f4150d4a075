"""Histories that a language model may be shown: the training rows of a dataset, user by user."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.card import read_unchanged
from ...data.catalog import Catalog
from ...data.prepare.encode import factorise, in_order
from ...data.split import parts_of, split_digest
from ...errors import DataError
from ...schemas import DatasetCard, SplitSpec

Ints = np.ndarray[Any, np.dtype[np.int64]]
COLUMNS = ["user_id", "item_id", "timestamp"]


@dataclass(frozen=True)
class UserHistory:
    """The training rows of one user, oldest first.

    Attributes:
        user: the id.
        rows: numbers of rows of `interactions.parquet`, from 0.
        items: their items.
        values: their values, such as ratings, where the data have any.
    """

    user: str
    rows: list[int]
    items: list[str]
    values: list[float | None] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, rows: slice) -> UserHistory:
        """A part of it, by place from the oldest."""
        values = None if self.values is None else self.values[rows]
        return UserHistory(self.user, self.rows[rows], self.items[rows], values)

    def last(self, count: int) -> UserHistory:
        """The `count` most recent ones."""
        return self.part(slice(-count, None))

    def with_text(self, lines: Mapping[str, str]) -> UserHistory:
        """Those whose items have a text."""
        kept = [at for at, item in enumerate(self.items) if lines[item]]
        values = None if self.values is None else [self.values[at] for at in kept]
        return UserHistory(self.user, [self.rows[at] for at in kept], [self.items[at] for at in kept], values)

    def blocks(self, size: int) -> list[UserHistory]:
        """Consecutive blocks of `size`, oldest first; the last may be shorter."""
        return [self.part(slice(at, at + size)) for at in range(0, len(self), size)]


@dataclass(frozen=True)
class TrainingRows:
    """A dataset as its split divides it.

    Attributes:
        card: of the dataset.
        catalog: its items and users.
        spec: how it was divided.
        split_hash: of the part of every row.
        train: `row`, `user_id`, `item_id` of the training part, and `value` where values differ, each user's rows
            oldest first.
        held_out: `user_id`, `item_id` of all the other rows.
    """

    card: DatasetCard
    catalog: Catalog
    spec: SplitSpec
    split_hash: str
    train: pl.DataFrame
    held_out: pl.DataFrame

    def digest(self) -> str:
        """Of the training rows, as the loss that reads simulated records computes it."""
        users, items = (
            self.catalog.user_index(self.train["user_id"]),
            self.catalog.item_index(self.train["item_id"]),
        )
        return training_digest(users, items)

    def users(self, share: float, seed: int) -> list[str]:
        """A share of the users with a training row, drawn without replacement, in the order of the data."""
        if not 0 < share <= 1:
            raise DataError(f"--users is a share of the training users, above 0 and at most 1; found {share}")
        everyone = self.train["user_id"].unique(maintain_order=True)
        count = max(1, round(share * len(everyone)))
        chosen = np.random.default_rng(seed).permutation(len(everyone))[:count]
        return everyone.gather(np.sort(chosen)).to_list()

    def histories(self, users: list[str]) -> list[UserHistory]:
        """The training rows of these users, in their order."""
        mine = self.train.filter(pl.col("user_id").is_in(users))
        grouped = mine.group_by("user_id", maintain_order=True).agg(pl.exclude("user_id"))
        found = {user: UserHistory(user, *lists) for user, *lists in grouped.iter_rows()}
        return [found[user] for user in users]

    def every_history(self) -> list[UserHistory]:
        """Those of all users who have a training row, in the order of the catalogue."""
        met = self.train.select(pl.col("user_id").unique())
        order = self.catalog.users.select(pl.col("user_id").cast(pl.String))
        return self.histories(
            order.join(met, on="user_id", how="semi", maintain_order="left")["user_id"].to_list()
        )

    def cold_items(self) -> list[str]:
        """Items of the catalogue without a training interaction, in its order."""
        known = self.train["item_id"].unique()
        return (
            self.catalog.items["item_id"]
            .filter(~self.catalog.items["item_id"].is_in(known.implode()))
            .to_list()
        )


def read_training(data: Path, split: SplitSpec, split_path: Path | None = None) -> TrainingRows:
    """Divide a dataset as `RecDataModule` does, by a spec or by a folder of `recloom data split`."""
    card, catalog = read_unchanged(data), Catalog.load(data)
    split, part = parts_of(data, card, split, split_path)
    file = data / "interactions.parquet"
    value = [name for name in pl.read_parquet_schema(file) if name == "value"]
    frame = pl.read_parquet(file, columns=[*COLUMNS, *value], glob=False)
    rows = frame.with_row_index("row").with_columns(pl.col("user_id", "item_id").cast(pl.String), part=part)
    training = pl.col("part").eq("train").fill_null(False)
    train = rows.filter(training)
    train = train[in_order(factorise(train["user_id"])[0], train["timestamp"].to_numpy())]
    if not len(train):
        raise DataError(
            f"the split {split} leaves no training rows of {data}. Lower min_user, min_item, valid or test."
        )
    held_out = rows.filter(~training).select("user_id", "item_id")
    value = [name for name in value if train[name].n_unique() > 1]
    train = train.select(pl.col("row").cast(pl.Int64), "user_id", "item_id", *value)
    return TrainingRows(card, catalog, split, split_digest(part), train, held_out)


def training_digest(users: Ints, items: Ints) -> str:
    """16 hex digits that are equal exactly for equal (N,) pairs of user and item indices, in whatever order."""
    keys = np.sort(users.astype(np.int64) << 32 | items.astype(np.int64))
    return hashlib.sha256(keys.tobytes()).hexdigest()[:16]
