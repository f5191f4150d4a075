"""Who and what exists: raw ids, texts and attributes of items and users.

Index 0 is padding (items) or unknown (users); row r of the table is index r + 1.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..errors import DataError
from ..schemas import ContextField, DatasetCard, EventCodes
from .card import CARD, read_card
from .columns import Columns, IdTable, Indices, event_codes, hash_ids, load_columns
from .provenance import ENCODER, check_encoder, encoder_of

Table = pl.DataFrame
VECTOR = "vector"
"""The column of the items, and that of the users, that holds vectors."""
CODES = "recloom.codes"
"""The key of the items' metadata in a checkpoint: what codes of events and of the context stand for."""
COUNTED = ("num_interactions", "average_rating", "rating_number")
"""Columns that were computed over held-out interactions too, so neither a model nor a prompt reads them."""


class Catalog:
    """The items and users that a recommender knows, as two tables.

    Args:
        items: `item_id` first (unique strings), then any attributes, such as `title`.
        users: `user_id` first (unique strings), then any attributes; may be empty.
        encoder: what made the vectors of the items, as their file says; empty where none does.
        events: which code stands for what happened; None where the data do not say.
        context: the fields of a request, and which code stands for what.
    """

    def __init__(
        self,
        items: Table,
        users: Table | None = None,
        encoder: str = "",
        events: EventCodes | None = None,
        context: Sequence[ContextField] = (),
    ) -> None:
        self.items = _checked(items, "item_id")
        self.users = _checked(
            pl.DataFrame({"user_id": []}, schema={"user_id": pl.String}) if users is None else users,
            "user_id",
        )
        self.encoder, self.events, self.context = encoder, events, tuple(context)
        self.read: set[str] = set()
        """Whose vectors somebody asked for: `items`, `users`."""
        self.num_items = self.items.height
        self.num_users = self.users.height

    def __repr__(self) -> str:
        return f"Catalog({self.num_items:,} items, {self.num_users:,} users, columns {self.items.columns})"

    @property
    def num_events(self) -> int:
        """Codes of `history_event` beside 0; 0 where the data do not say what happened."""
        return 0 if self.events is None else len(self.events.names)

    @classmethod
    def load(cls, folder: str | Path, card: DatasetCard | None = None) -> Catalog:
        """Read `items.parquet` and `users.parquet` of a prepared dataset, and from `dataset.json` what codes mean.

        card: `dataset.json`, where it was read already.
        """
        folder = Path(folder)
        missing = [name for name in ("items.parquet", "users.parquet") if not (folder / name).is_file()]
        if missing:
            raise DataError(
                f"{folder} holds no {' and no '.join(missing)}, so it is not a prepared dataset. "
                "Make one with `recloom data prepare` or `recloom data synth`."
            )
        items, users = (
            pl.read_parquet(folder / f"{name}.parquet", glob=False) for name in ("items", "users")
        )
        if card is None and (folder / CARD).is_file():
            card = read_card(folder)
        return cls(items, users) if card is None else cls(items, users, "", card.events, card.context)

    def columns(self, folder: str | Path, cache: bool = True) -> Columns:
        """The interactions of a prepared dataset as integers; DataError for an id that is not known here."""
        ids = self.items["item_id"], self.users["user_id"]
        return load_columns(folder, *ids, self.events, self.context, cache, self._ids.copy().hexdigest()[:16])

    def event_codes(self, happened: Iterable[Any]) -> Indices:
        """Codes of raw events or values, such as ratings; 0 where one is no event of the dataset."""
        if self.events is None:
            raise DataError(
                "these data do not say what happened with an item, so no event can be given. Prepare them with a "
                "column of values (--value-column) or events (--event-column)."
            )
        return event_codes(pl.Series(list(happened), strict=False), self.events).astype(np.int64)

    def item_index(self, ids: Iterable[Any]) -> Indices:
        """Indices of raw item ids; 0 where an id is unknown."""
        return self._item_table.index(ids)

    def user_index(self, ids: Iterable[Any]) -> Indices:
        """Indices of raw user ids; 0 where an id is unknown."""
        return self._user_table.index(ids)

    def digest(self) -> str:
        """16 hex digits that are equal exactly for equal item and user ids in equal order, and equal vectors."""
        return self._hashed

    @cached_property
    def _hashed(self) -> str:
        found = self._ids.copy()
        if VECTOR in self.items.columns:  # a run must not be measured with other vectors than it learnt from
            found.update(_matrix(self.items[VECTOR]).tobytes())
        if VECTOR in self.users.columns:
            found.update(b"users:" + _matrix(self.users[VECTOR]).tobytes())
        digest: str = found.hexdigest()[:16]
        return digest

    @cached_property
    def _ids(self) -> Any:
        return hash_ids(self.items["item_id"], self.users["user_id"])

    def item_ids(self, index: Any) -> list[str]:
        """Raw ids of item indices (1 to num_items)."""
        return self.items["item_id"].gather(np.asarray(index) - 1).to_list()

    def titles(self, index: Any) -> list[str]:
        """Titles of item indices, raw ids where the data have no title."""
        column = self.items["title"] if "title" in self.items.columns else self.items["item_id"]
        return column.fill_null("").gather(np.asarray(index) - 1).to_list()

    def texts(self, columns: Sequence[str] = ("title",)) -> list[str]:
        """One text per item, in index order from 1: the columns joined by `. `, empty where there is none."""
        absent = [column for column in columns if column not in self.items.columns]
        if absent:
            raise DataError(
                f"the items have no column {absent[0]!r}; they have {', '.join(self.items.columns)}. "
                "Name another text column, or prepare the data with item texts."
            )
        return self.items.select(joined_text(self.items, columns)).to_series().to_list()

    def vectors(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(num_items + 1, size) float32 of the column `vector`; row 0 and items without one are zero."""
        if VECTOR not in self.items.columns:
            raise DataError(
                "the items have no vectors. Make them with `recloom embed`, and give the file with --data.vectors."
            )
        self.read.add("items")
        return _matrix(self.items[VECTOR])

    def user_vectors(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(num_users + 1, size) float32 of the users' column `vector`; row 0 and users without one are zero."""
        if VECTOR not in self.users.columns:
            raise DataError(
                "the users have no vectors. Make them with `recloom embed --of users`, and give the file with "
                "--data.user_vectors."
            )
        self.read.add("users")
        return _matrix(self.users[VECTOR])

    def with_vectors(self, path: str | Path) -> Catalog:
        """The same with the vectors of a Parquet file of `item_id` and `vector`, as `recloom embed` writes it.

        Raises DataError where the file is not one, holds a number that is not finite, vectors of several sizes,
        an item twice, or no vector of any item here.
        """
        table = _with_vectors(self.items, "item_id", Path(path))
        return Catalog(table, self.users, encoder_of(path), self.events, self.context)

    def with_user_vectors(self, path: str | Path) -> Catalog:
        """The same with the vectors of a Parquet file of `user_id` and `vector`; errors as in `with_vectors`."""
        table = _with_vectors(self.users, "user_id", Path(path))
        return Catalog(self.items, table, self.encoder, self.events, self.context)

    def extended(self, items: Table, vectors: str | Path | None = None) -> Catalog:
        """The same with new items after the others; what `items` lacks of the columns is empty.

        vectors: a file as for `with_vectors`, with a vector of every new item. Raises DataError where it is
        needed and missing, has no use, lacks an item, or holds vectors of another size or another encoder; warns
        where it is not known which encoder made them.
        """
        if vectors is not None and VECTOR not in self.items.columns:
            raise DataError("the items of this run have no vectors, so vectors of new items have no use")
        if vectors is None and VECTOR in self.items.columns:
            raise DataError(
                "this run reads items by vectors. Make those of the new items with the same encoder "
                "(`recloom embed DATA --texts NEW --out FILE --encoder ...`), and give the file with --vectors."
            )
        if vectors is not None:
            items = items.join(
                _vector_table(Path(vectors), "item_id"), on="item_id", how="left", maintain_order="left"
            )
            self._check_vectors(items, vectors)
            check_encoder(vectors, self.encoder)
        typed = items.with_columns(pl.col(name).cast(self.items.schema[name]) for name in items.columns)
        grown = pl.concat([self.items, typed], how="diagonal")
        return Catalog(grown, self.users, self.encoder, self.events, self.context)

    def _check_vectors(self, items: Table, path: str | Path) -> None:
        lacking = items.filter(pl.col(VECTOR).is_null())["item_id"]
        if len(lacking):
            raise DataError(f"{path} holds no vector of {len(lacking):,} new items, the first {lacking[0]!r}")
        size, found = self.vectors().shape[1], int(items[VECTOR].list.len()[0])
        if found != size:
            raise DataError(
                f"{path} holds vectors of {found} numbers, and those of this run have {size}. Make them with the "
                "encoder that made the others."
            )

    def text_columns(self) -> list[str]:
        """The columns of the items that hold text, the ids left out."""
        found = [name for name, kind in self.items.schema.items() if kind == pl.String and name != "item_id"]
        if not found:
            raise DataError(f"the items have no text columns; they have {', '.join(self.items.columns)}")
        return found

    def categories(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(num_items + 1,) category numbers from 1: the column `category`, or the first of `genres`; 0 for none."""
        name = next((column for column in ("category", "genres") if column in self.items.columns), None)
        if name is None:
            raise DataError(
                "category_diversity needs a column `category` or `genres` of the items; they have "
                + ", ".join(self.items.columns)
            )
        first = self.items[name].cast(pl.String).str.split("|").list.first()
        numbers = first.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
        return np.concatenate([[0], numbers])

    def to_bytes(self) -> dict[str, bytes]:
        """Both tables as Parquet, for a checkpoint that needs nothing beside it."""
        facts = {ENCODER.decode(): self.encoder} if self.encoder else {}
        if self.events is not None or self.context:
            fields = [field.model_dump(mode="json") for field in self.context]
            events = None if self.events is None else self.events.model_dump(mode="json")
            facts[CODES] = json.dumps({"events": events, "context": fields})
        return {"items": _parquet(self.items, facts), "users": _parquet(self.users, {})}

    @classmethod
    def from_bytes(cls, tables: dict[str, bytes]) -> Catalog:
        """The inverse of `to_bytes`."""
        items, users = (io.BytesIO(tables[name]) for name in ("items", "users"))
        facts = pl.read_parquet_metadata(items)
        codes = json.loads(facts.get(CODES, '{"events": null, "context": []}'))
        events = None if codes["events"] is None else EventCodes.model_validate(codes["events"])
        context = [ContextField.model_validate(field) for field in codes["context"]]
        made_by = facts.get(ENCODER.decode(), "")
        return cls(pl.read_parquet(items), pl.read_parquet(users), made_by, events, context)

    @cached_property
    def _item_table(self) -> IdTable:
        return IdTable(self.items["item_id"])

    @cached_property
    def _user_table(self) -> IdTable:
        return IdTable(self.users["user_id"])


def is_text(kind: pl.DataType) -> bool:
    """Whether values of a type can be read as text: those in no structure, and lists of them."""
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
    return not (inner.is_nested() or inner == pl.Binary)


def column_text(table: Table, name: str) -> pl.Expr:
    """A column as text: lists with commas between their values, "" where there is nothing."""
    column, kind = pl.col(name), table.schema[name]
    if not is_text(kind):
        raise DataError(f"the column {name!r} holds {kind}, which is no text")
    if isinstance(kind, pl.List | pl.Array):
        column = column.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    return column.cast(pl.String).fill_null("").str.strip_chars()


def joined_text(table: Table, columns: Sequence[str]) -> pl.Expr:
    """The columns as one text, joined by `. `, "" where there is none."""
    parts = [column_text(table, name) for name in columns]
    held = [pl.when(part == "").then(None).otherwise(part) for part in parts]
    return pl.concat_str(held, separator=". ", ignore_nulls=True).fill_null("")


def _checked(table: Table, key: str) -> Table:
    if key not in table.columns:
        raise DataError(
            f"a catalogue table needs the column {key!r}; found {', '.join(table.columns) or 'none'}"
        )
    ids = table[key].cast(pl.String)
    if ids.null_count() or ids.n_unique() != len(ids):
        twice = ids.filter(ids.is_duplicated() | ids.is_null())[0]
        raise DataError(f"column {key!r} must hold each id once; {twice!r} is empty or stands there twice")
    return table.with_columns(ids.alias(key))


def _matrix(column: pl.Series) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(rows + 1, size) float32 of a column of vectors; row 0 and rows without one are zero."""
    filled = column.drop_nulls()
    given = np.asarray(filled.to_list() if len(filled) else [[]], dtype=np.float32)
    found = np.zeros((len(column) + 1, given.shape[1]), np.float32)
    found[1 + np.flatnonzero(column.is_not_null().to_numpy())] = given if len(filled) else 0
    return found


def _with_vectors(table: Table, key: str, path: Path) -> Table:
    """A table of the catalogue with the vectors of a file."""
    joined = table.drop(VECTOR, strict=False).join(
        _vector_table(path, key), on=key, how="left", maintain_order="left"
    )
    if joined[VECTOR].null_count() == len(table):
        things = key.removesuffix("_id") + "s"
        raise DataError(f"{path} holds no vector of any of the {len(table):,} {things} of this dataset")
    return joined


def _vector_table(path: Path, key: str) -> Table:
    if not path.is_file():
        raise DataError(f"{path}: expected a Parquet file of {key} and vector, found no such file")
    try:
        table = pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    if not {key, VECTOR} <= set(table.columns):
        raise DataError(f"{path} must have the columns {key} and vector; found {', '.join(table.columns)}")
    lists = table[VECTOR].dtype
    if not isinstance(lists, pl.List | pl.Array) or not lists.inner.is_numeric():
        raise DataError(f"{path}: column vector must hold lists of numbers; found {lists}")
    table = table.select(pl.col(key).cast(pl.String), pl.col(VECTOR).cast(pl.List(pl.Float32))).drop_nulls()
    if table[key].n_unique() < len(table):
        twice = table[key].filter(table[key].is_duplicated())[0]
        raise DataError(f"{path} holds {key.removesuffix('_id')} {twice!r} twice")
    sizes = table[VECTOR].list.len().unique()
    if len(sizes) != 1 or not sizes[0]:
        raise DataError(
            f"{path}: all vectors must have one size above 0; found {sorted(sizes.to_list()) or 'no vector'}"
        )
    if not table[VECTOR].explode().is_finite().all():
        raise DataError(f"{path}: a vector holds a number that is not finite")
    return table


def _parquet(table: Table, facts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata=facts or None)
    return buffer.getvalue()
