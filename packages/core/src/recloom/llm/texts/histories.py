"""What a language model may be shown of a dataset: its training rows, user by user, and the texts of its items."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...data.card import read_unchanged
from ...data.catalog import COUNTED, VECTOR, Catalog
from ...data.prepare.encode import factorise, in_order
from ...data.split import parts_of, split_digest
from ...errors import DataError
from ...schemas import DatasetCard, SplitSpec

Ints = np.ndarray[Any, np.dtype[np.int64]]
COLUMNS = ["user_id", "item_id", "timestamp"]


@dataclass(frozen=True)
class UserHistory:
    """The training rows of one user, oldest first: numbers of rows of `interactions.parquet`, from 0, and items."""

    user: str
    rows: list[int]
    items: list[str]

    def last(self, count: int) -> UserHistory:
        """The `count` most recent ones."""
        return UserHistory(self.user, self.rows[-count:], self.items[-count:])

    def with_text(self, lines: dict[str, str]) -> UserHistory:
        """Those whose items have a line."""
        kept = [at for at, item in enumerate(self.items) if lines[item]]
        return UserHistory(self.user, [self.rows[at] for at in kept], [self.items[at] for at in kept])

    def blocks(self, size: int) -> list[UserHistory]:
        """Consecutive blocks of `size`, oldest first; the last may be shorter."""
        return [
            UserHistory(self.user, self.rows[at : at + size], self.items[at : at + size])
            for at in range(0, len(self.rows), size)
        ]


@dataclass(frozen=True)
class TrainingRows:
    """A dataset as its split divides it.

    Attributes:
        card: of the dataset.
        catalog: its items and users.
        spec: how it was divided.
        split_hash: of the part of every row.
        train: `row`, `user_id`, `item_id` of the training part, each user's rows oldest first.
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
        grouped = mine.group_by("user_id", maintain_order=True).agg("row", "item_id")
        found = {user: UserHistory(user, rows, items) for user, rows, items in grouped.iter_rows()}
        return [found[user] for user in users]

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
    frame = pl.read_parquet(data / "interactions.parquet", columns=COLUMNS, glob=False)
    rows = frame.with_row_index("row").with_columns(pl.col("user_id", "item_id").cast(pl.String), part=part)
    training = pl.col("part").eq("train").fill_null(False)
    train = rows.filter(training)
    train = train[in_order(factorise(train["user_id"])[0], train["timestamp"].to_numpy())]
    if not len(train):
        raise DataError(
            f"the split {split} leaves no training rows of {data}. Lower min_user, min_item, valid or test."
        )
    held_out = rows.filter(~training).select("user_id", "item_id")
    return TrainingRows(
        card, catalog, split, split_digest(part), train.select("row", "user_id", "item_id"), held_out
    )


def item_lines(catalog: Catalog, columns: list[str] | None) -> dict[str, str]:
    """`column: value; ...` of what each item has of these columns, by id; '' where it has none of them.

    By default every column but the id, what holds no plain value, and what was computed over held-out rows too.
    """
    plain = [
        name
        for name, kind in catalog.items.schema.items()
        if not kind.is_nested() and name not in ("item_id", VECTOR, *COUNTED)
    ]
    chosen = columns or plain
    absent = [name for name in chosen if name not in plain]
    if absent or not chosen:
        raise DataError(
            f"the items have no column {absent[0] if absent else 'with text'!r}; the columns are "
            f"{', '.join(plain) or 'none'}. Name some of them with --columns."
        )
    return {
        item: described(dict(zip(chosen, values, strict=True)))
        for item, *values in catalog.items.select("item_id", *chosen).iter_rows()
    }


def described(item: dict[str, Any]) -> str:
    """`column: value; ...` of what is not null and not blank, in the order of the columns."""
    return "; ".join(
        f"{name}: {value}" for name, value in item.items() if str("" if value is None else value).strip()
    )


def training_digest(users: Ints, items: Ints) -> str:
    """16 hex digits that are equal exactly for equal (N,) pairs of user and item indices, in whatever order."""
    keys = np.sort(users.astype(np.int64) << 32 | items.astype(np.int64))
    return hashlib.sha256(keys.tobytes()).hexdigest()[:16]
