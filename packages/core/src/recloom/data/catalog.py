"""Who and what exists: raw ids, texts and attributes of items and users.

Index 0 is padding (items) or unknown (users); row r of the table is index r + 1.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..errors import DataError
from ..schemas import ContextField, DatasetCard, EventCodes
from .card import CARD, read_card
from .columns import Columns, IdTable, Indices, event_codes, hash_ids, listed_values, load_columns
from .provenance import ENCODER, check_encoder, encoder_of
from .vector_files import UNNAMED, ItemVectors, files_by_name, read_vectors, vector_matrix, with_vector_column
from .vector_files import VECTOR as VECTOR

Table = pl.DataFrame
CODES = "recloom.codes"
"""The key of the items' metadata in a checkpoint: what codes of events and of the context stand for."""
OF_NAME = "vectors "
"""What the name of a table of a checkpoint begins with that holds vectors with a name."""
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
        named: vectors of the items by name, beside those of the column `vector`, which have none.
    """

    def __init__(
        self,
        items: Table,
        users: Table | None = None,
        encoder: str = "",
        events: EventCodes | None = None,
        context: Sequence[ContextField] = (),
        named: Mapping[str, ItemVectors] | None = None,
    ) -> None:
        self.items = _checked(items, "item_id")
        self.users = _checked(
            pl.DataFrame({"user_id": []}, schema={"user_id": pl.String}) if users is None else users,
            "user_id",
        )
        self.unnamed_encoder, self.events, self.context = encoder, events, tuple(context)
        self.named = dict(named or {})
        self.read: set[str] = set()
        """Which vectors somebody asked for: `items`, `users`, and `items NAME` of those with a name."""
        self.cache: Path | None = None
        """Folder that may keep what is made of its texts, such as tokens: `.cache` in the dataset or the run."""
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
        found = cls(items, users) if card is None else cls(items, users, "", card.events, card.context)
        found.cache = folder / ".cache"
        return found

    def columns(self, folder: str | Path, cache: bool = True) -> Columns:
        """The interactions of a prepared dataset as integers; DataError for an id that is not known here."""
        ids = self.items["item_id"], self.users["user_id"]
        return load_columns(folder, *ids, self.events, self.context, cache, self._ids.copy().hexdigest()[:16])

    def event_codes(self, happened: Iterable[Any], *, only_listed: bool = False) -> Indices:
        """Codes of raw events or values, such as ratings; 0 where one is missing, an unknown word, or no number.

        Args:
            happened: raw events.
            only_listed: 0 too for a number that is no event itself, where the values of the dataset are its events;
                otherwise such a number has the code of the next lower value, or of the lowest. Where the dataset was
                prepared with cuts, every number is in one of their intervals.

        Raises DataError where the data have no events.
        """
        if self.events is None:
            raise DataError(
                "these data do not say what happened with an item, so no event can be given. Prepare them with a "
                "column of values (--value-column) or events (--event-column)."
            )
        raw = pl.Series(list(happened), strict=False)
        codes = event_codes(raw, self.events).astype(np.int64)
        return np.where(listed_values(raw, self.events), codes, 0) if only_listed else codes

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
            found.update(vector_matrix(self.items[VECTOR]).tobytes())
        if VECTOR in self.users.columns:
            found.update(b"users:" + vector_matrix(self.users[VECTOR]).tobytes())
        for name, kept in self.named.items():
            found.update(f"items {name}:".encode() + vector_matrix(kept.values).tobytes())
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

    @property
    def vector_names(self) -> list[str]:
        """Names of the vectors of the items, those without a name first as an empty one."""
        return [*([UNNAMED] if VECTOR in self.items.columns else []), *self.named]

    @property
    def encoder(self) -> str:
        """What made the vectors that `vectors()` gives, as their file says; empty where none does."""
        first = next(iter(self.vector_names), UNNAMED)
        return self.named[first].encoder if first else self.unnamed_encoder

    def vectors(self, name: str | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(num_items + 1, size) float32 vectors of the items; row 0 and items without one are zero.

        name: of which vectors; None = of those without a name, or of the first where all have one. Raises DataError
            that lists the names there are.
        """
        there = self.vector_names
        if not there:
            raise DataError(
                "the items have no vectors. Make them with `recloom embed`, and give the file with --data.vectors."
            )
        chosen = there[0] if name is None else name
        if chosen not in there:
            have = ", ".join(one or "those without a name" for one in there)
            raise DataError(
                f"the items have no vectors called {chosen!r}; they have {have}. Give the file with --data.vectors "
                f"{chosen}=FILE, or choose one of these."
            )
        self.read.add(f"items {chosen}".rstrip())
        return vector_matrix(self.named[chosen].values if chosen else self.items[VECTOR])

    def user_vectors(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(num_users + 1, size) float32 of the users' column `vector`; row 0 and users without one are zero."""
        if VECTOR not in self.users.columns:
            raise DataError(
                "the users have no vectors. Make them with `recloom embed --of users`, and give the file with "
                "--data.user_vectors."
            )
        self.read.add("users")
        return vector_matrix(self.users[VECTOR])

    def with_vectors(self, path: str | Path, name: str = UNNAMED) -> Catalog:
        """The same with the vectors of a Parquet file of `item_id` and `vector`, as `recloom embed` writes it.

        Raises DataError where the file is not one, holds a number that is not finite, vectors of several sizes,
        an item twice, or no vector of any item here.
        """
        if not name:
            table = with_vector_column(self.items, "item_id", Path(path))
            return self._with(items=table, encoder=encoder_of(path))
        values = with_vector_column(self.items.select("item_id"), "item_id", Path(path))[VECTOR]
        return self._with(named={**self.named, name: ItemVectors(values, encoder_of(path))})

    def with_user_vectors(self, path: str | Path) -> Catalog:
        """The same with the vectors of a Parquet file of `user_id` and `vector`; errors as in `with_vectors`."""
        return self._with(users=with_vector_column(self.users, "user_id", Path(path)))

    def _with(
        self,
        items: Table | None = None,
        users: Table | None = None,
        encoder: str | None = None,
        named: Mapping[str, ItemVectors] | None = None,
    ) -> Catalog:
        """The same with other parts; nobody has asked for its vectors yet."""
        made = Catalog(
            self.items if items is None else items, self.users if users is None else users,
            self.unnamed_encoder if encoder is None else encoder, self.events, self.context,
            self.named if named is None else named,
        )  # fmt: skip
        made.cache = self.cache
        return made

    def extended(self, items: Table, vectors: str | Path | Mapping[str, str | Path] | None = None) -> Catalog:
        """The same with new items after the others; what `items` lacks of the columns is empty.

        vectors: a file as for `with_vectors`, or files by name, with a vector of every new item. Raises DataError
        where one is needed and missing, has no use, lacks an item, or holds vectors of another size or another
        encoder; warns where it is not known which encoder made them.
        """
        given = files_by_name(vectors)
        self._check_names(given)
        new = {name: self._new_vectors(items, name, Path(path)) for name, path in given.items()}
        if UNNAMED in new:
            items = items.with_columns(new[UNNAMED])
        typed = items.with_columns(pl.col(name).cast(self.items.schema[name]) for name in items.columns)
        named = {
            name: ItemVectors(pl.concat([kept.values, new[name]]), kept.encoder)
            for name, kept in self.named.items()
        }
        return self._with(items=pl.concat([self.items, typed], how="diagonal"), named=named)

    def _check_names(self, given: Mapping[str, str]) -> None:
        """Raise DataError unless there is one file for each name."""
        there = self.vector_names
        if given and not there:
            raise DataError("the items of this run have no vectors, so vectors of new items have no use")
        wanted = " ".join(f"{name}=FILE" if name else "FILE" for name in there)
        foreign, missing = [n for n in given if n not in there], [n for n in there if n not in given]
        if foreign:
            named = f"vectors called {foreign[0]!r}" if foreign[0] else "vectors without a name"
            raise DataError(f"this run reads no {named}. Give its own: --vectors {wanted}.")
        if missing:
            which = f" {missing[0]!r}" if missing[0] else ""
            raise DataError(
                f"this run reads items by vectors{which}. Make those of the new items with the same encoder "
                "(`recloom embed DATA --texts NEW --out FILE --encoder ...`), and give the file with --vectors"
                + (f" {wanted}." if any(there) else ".")
            )

    def _new_vectors(self, items: Table, name: str, path: Path) -> pl.Series:
        """The vectors of new items under a name; DataError where they do not fit those that are there."""
        ids = items.select("item_id")
        values = ids.join(read_vectors(path, "item_id"), on="item_id", how="left", maintain_order="left")
        lacking = values.filter(pl.col(VECTOR).is_null())["item_id"]
        if len(lacking):
            raise DataError(f"{path} holds no vector of {len(lacking):,} new items, the first {lacking[0]!r}")
        size, found = self.vectors(name).shape[1], int(values[VECTOR].list.len()[0])
        if found != size:
            raise DataError(
                f"{path} holds vectors of {found} numbers, and those of this run have {size}. Make them with the "
                "encoder that made the others."
            )
        check_encoder(path, self.named[name].encoder if name else self.unnamed_encoder)
        return values[VECTOR]

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
        """Both tables, and the vectors with names, as Parquet: for a checkpoint that needs nothing beside it."""
        facts = _made_by(self.unnamed_encoder)
        if self.events is not None or self.context:
            fields = [field.model_dump(mode="json") for field in self.context]
            events = None if self.events is None else self.events.model_dump(mode="json")
            facts[CODES] = json.dumps({"events": events, "context": fields})
        named = {
            f"{OF_NAME}{name}": _parquet(kept.values.to_frame(VECTOR), _made_by(kept.encoder))
            for name, kept in self.named.items()
        }
        return {"items": _parquet(self.items, facts), "users": _parquet(self.users, {})} | named

    @classmethod
    def from_bytes(cls, tables: dict[str, bytes]) -> Catalog:
        """The inverse of `to_bytes`."""
        items, users = (io.BytesIO(tables[name]) for name in ("items", "users"))
        facts = pl.read_parquet_metadata(items)
        codes = json.loads(facts.get(CODES, '{"events": null, "context": []}'))
        events = None if codes["events"] is None else EventCodes.model_validate(codes["events"])
        context = [ContextField.model_validate(field) for field in codes["context"]]
        made_by = facts.get(ENCODER.decode(), "")
        named = {}
        for name in (name for name in tables if name.startswith(OF_NAME)):
            file = io.BytesIO(tables[name])
            encoder = pl.read_parquet_metadata(file).get(ENCODER.decode(), "")
            named[name.removeprefix(OF_NAME)] = ItemVectors(pl.read_parquet(file)[VECTOR], encoder)
        return cls(pl.read_parquet(items), pl.read_parquet(users), made_by, events, context, named)

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


def _made_by(encoder: str) -> dict[str, str]:
    return {ENCODER.decode(): encoder} if encoder else {}


def _parquet(table: Table, facts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata=facts or None)
    return buffer.getvalue()
