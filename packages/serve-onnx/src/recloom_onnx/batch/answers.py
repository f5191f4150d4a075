"""Lists for a table of requests: batches of like length go through the artefact, the order stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from recloom.errors import RecloomError

from ..session import Session
from .requests import id_type

Layout = Literal["rows", "lists"]
Array = np.ndarray[Any, np.dtype[Any]]
BATCH = 256
"""Requests that go through the artefact together, at most."""
CELLS = 250_000
"""Ids of a batch, padding included, at most (but a request is never cut); they are Python objects there."""


class Answers:
    """Turns requests into lists.

    Args:
        session: the artefact.
        k: length of the lists.
        exclude: raw item ids that nobody gets.
        layout: one row for each place, or one for each request.
        key: name and type of the column that says whose list it is.
    """

    def __init__(
        self, session: Session, k: int, exclude: Sequence[str], layout: Layout, key: tuple[str, pa.DataType]
    ) -> None:
        self.session, self.k, self.layout = session, min(k, session.manifest.num_items), layout
        self.ids = id_type(session.manifest)
        self._blank: str | int = "" if pa.types.is_string(self.ids) else -1
        self._exclude = _for_everybody(exclude, self.ids)
        titles: Mapping[Any, str] = getattr(session, "titles", {})
        self._titled = pa.array(titles.keys(), self.ids) if titles else None
        self._titles = pa.array(titles.values(), pa.string()) if titles else None
        self.schema = self._schema(*key)

    def __call__(self, table: pa.Table) -> tuple[pa.Table, int]:
        """The lists of the requests, in their order, and how many of them are empty."""
        rows = len(table)
        ids: Array = np.full((rows, self.k), self._blank, dtype=object if self._blank == "" else np.int64)
        scores: Array = np.full((rows, self.k), -np.inf, dtype=np.float32)
        lengths = pc.list_value_length(table["history"]).to_numpy()
        order = np.argsort(lengths, kind="stable")
        for low, high in cuts(lengths[order]):
            some = order[low:high]
            ids[some], scores[some] = self.session.run(self._given(table.take(some)), self.k)
        left = (scores > -np.inf).sum(1)  # what is left comes first
        return self._table(table[self.schema.names[0]], ids, scores, left), int((left == 0).sum())

    def _given(self, table: pa.Table) -> dict[str, Array]:
        """The inputs of the artefact."""
        given = {"history": padded(table["history"], self._blank), "blocked": self._blocked(table)}
        inputs = self.session.inputs
        if "allowed" in inputs:
            given["allowed"] = self._column(table, "allow")
        if "user" in inputs and "user_id" in table.column_names:
            given["user"] = table["user_id"].cast(pa.string()).to_numpy()
        if "history_time" in inputs:
            given["history_time"] = padded(table["history_times"], 0)
        if "request_time" in inputs:
            given["request_time"] = table["request_time"].to_numpy()
        return given

    def _blocked(self, table: pa.Table) -> Array:
        own = self._column(table, "exclude")
        return np.concatenate([own, np.tile(self._exclude, (len(table), 1))], axis=1)

    def _column(self, table: pa.Table, name: str) -> Array:
        if name in table.column_names:
            return padded(table[name], self._blank)
        return np.full((len(table), 0), self._blank, dtype=self._exclude.dtype)

    def _table(self, key: pa.ChunkedArray, ids: Array, scores: Array, left: Array) -> pa.Table:
        place = np.arange(self.k)
        real = place < left[:, None]
        items = pa.array(ids[real], self.ids)
        columns = [items, pa.array(scores[real])]
        if self._titles is not None:
            columns.append(self._titles.take(pc.index_in(items, self._titled)))
        if self.layout == "lists":
            offsets = pa.array(np.concatenate([[0], left.cumsum()]), pa.int32())
            listed = [pa.ListArray.from_arrays(offsets, column) for column in columns]
            return pa.table([key, *listed], schema=self.schema)
        whose = key.combine_chunks().take(pa.array(np.repeat(np.arange(len(left)), left)))
        rank = pa.array(np.broadcast_to(place + 1, real.shape)[real], pa.int32())
        return pa.table([whose, rank, *columns], schema=self.schema)

    def _schema(self, key: str, kind: pa.DataType) -> pa.Schema:
        columns = {"item_id": self.ids, "score": pa.float32()}
        if self._titles is not None:
            columns["title"] = pa.string()
        if self.layout == "lists":
            return pa.schema({key: kind} | {f"{name}s": pa.list_(type_) for name, type_ in columns.items()})
        return pa.schema({key: kind, "rank": pa.int32()} | columns)


def cuts(lengths: Array) -> Iterator[tuple[int, int]]:
    """Where batches begin and end in requests that are sorted by length: at most BATCH and CELLS each."""
    low = 0
    while low < len(lengths):
        high = min(low + BATCH, len(lengths))
        while high - low > 1 and int(lengths[high - 1]) * (high - low) > CELLS:
            high = low + (high - low + 1) // 2
        yield low, high
        low = high


def padded(column: pa.ChunkedArray, blank: str | int) -> Array:
    """Lists to one (B, L) array, aligned right; a null is an empty list."""
    array = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    width = int(lengths.max(initial=0))
    full: Array = np.full((len(array), width), blank, dtype=object if blank == "" else np.int64)
    full[np.arange(width) >= (width - lengths)[:, None]] = array.flatten().to_numpy(zero_copy_only=False)
    return full


def _for_everybody(exclude: Sequence[str], ids: pa.DataType) -> Array:
    if pa.types.is_string(ids):
        return np.array([*exclude], dtype=object)
    try:
        return np.array([int(one) for one in exclude], dtype=np.int64)
    except ValueError as error:
        raise RecloomError(
            f"item ids of this artefact are integers; found --exclude {' '.join(exclude)}"
        ) from error
