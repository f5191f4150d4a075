"""Recommendations for a table of requests, run in batches of similar length; the order of the rows is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..artifact.ids import ALLOW_SENTINEL, PADDING, Array, id_array
from ..artifact.raw_codes import blank_events
from ..artifact.session import Session
from .parts import Counts
from .requests import CONTEXT, id_type

Layout = Literal["rows", "lists"]
BATCH = 256
"""Requests that go through the artefact together, at most."""
EXAMPLES = 3
"""Unknown ids that are kept to be shown."""
CELLS = 250_000
"""Ids of a batch, padding included, at most (but a request is never cut); they are Python objects there."""


class BatchRecommender:
    """Answers tables of requests with an artefact.

    Args:
        session: the artefact.
        k: length of the lists.
        exclude: raw item ids that no list holds.
        layout: one row for each place, or one for each request.
        key: name and type of the column that says whose list it is.
    """

    def __init__(
        self, session: Session, k: int, exclude: Sequence[str], layout: Layout, key: tuple[str, pa.DataType]
    ) -> None:
        self.session, self.k, self.layout = session, min(k, session.manifest.num_items), layout
        self.ids, kind = id_type(session.manifest), session.manifest.ids
        self._blank = PADDING[kind]
        self._exclude = id_array(exclude, kind)
        self._nothing = id_array([ALLOW_SENTINEL], kind)[0]
        self._titled = pa.array([*session.titles], pa.string()).cast(self.ids)
        self._titles = pa.array([*session.titles.values()], pa.string())
        self.schema = self._schema(*key)
        reads_users = "user" in session.inputs  # else the column is a name and nothing more
        self._known = {
            "items": frozenset(session.item_ids),
            "users": session.user_ids if reads_users else None,
        }
        self.examples: dict[str, list[str]] = {"items": [], "users": []}
        """The first unknown ids that were found."""

    def __call__(self, table: pa.Table) -> tuple[pa.Table, Counts]:
        """The lists of the requests, in their order, and what is to be counted of them."""
        rows = len(table)
        ids: Array = np.full((rows, self.k), self._blank, dtype=self._exclude.dtype)
        scores: Array = np.full((rows, self.k), -np.inf, dtype=np.float32)
        sizes = np.sum([_lengths(table[name]) for name in ("history", "exclude", "allow")], axis=0)
        order = np.argsort(sizes, kind="stable")
        for low, high in cuts(sizes[order]):
            some = order[low:high]
            ids[some], scores[some] = self.session.run(self._given(table.take(some)), self.k)
        left = (scores > -np.inf).sum(1)  # what is left comes first
        history = table["history"].combine_chunks().flatten()
        users = table["user_id"].combine_chunks() if "user_id" in table.column_names else pa.nulls(0)
        counts = Counts(
            requests=rows,
            empty=int((left == 0).sum()),
            items=len(history),
            unknown_items=self._unknown("items", history),
            unknown_users=self._unknown("users", users),
        )
        return self._table(table[self.schema.names[0]], ids, scores, left), counts

    def _unknown(self, what: str, ids: pa.Array) -> int:
        """How many of the ids the artefact does not know; the first ones are kept as examples."""
        known = self._known[what]
        if known is None or not len(ids):
            return 0
        each = (
            ids.dictionary_encode()
        )  # a set is asked for each id once; Arrow would hash all known ids every time
        odd = np.fromiter((str(one) not in known for one in each.dictionary.to_pylist()), bool)
        places = np.flatnonzero(odd[each.indices.to_numpy()])
        kept = self.examples[what]
        kept += [str(ids[place]) for place in places[: EXAMPLES - len(kept)].tolist()]
        return len(places)

    def _given(self, table: pa.Table) -> dict[str, Array]:
        """The inputs of the artefact."""
        inputs, own = self.session.inputs, padded(table["exclude"], self._blank)
        given = {
            "history": padded(table["history"], self._blank),
            "blocked": np.concatenate([own, np.tile(self._exclude, (len(table), 1))], axis=1),
            "allowed": self._allowed(table["allow"]),
        }
        if "user" in inputs and "user_id" in table.column_names:
            given["user"] = table["user_id"].cast(pa.string()).to_numpy()
        if "history_time" in inputs:
            given["history_time"] = padded(table["history_times"], 0)
        if "request_time" in inputs:
            given["request_time"] = table["request_time"].to_numpy()
        if "history_events" in table.column_names:
            blank = blank_events((), self.session.manifest.events).item()
            given["history_event"] = padded(table["history_events"], blank, given["history"].shape[1])
        fields = self.session.manifest.context
        if any(f"{CONTEXT}{field.name}" in table.column_names for field in fields):
            given["context"] = np.stack([_field(table, field.name) for field in fields], axis=1)
        return given

    def _allowed(self, column: pa.ChunkedArray) -> Array:
        """Every list gets the sentinel id, which no artefact knows, so that an empty one allows nothing."""
        there = pc.is_valid(column).to_numpy()
        nothing = np.where(there, self._nothing, self._blank).astype(self._exclude.dtype)
        return np.concatenate([padded(column, self._blank), nothing[:, None]], axis=1)

    def _table(self, key: pa.ChunkedArray, ids: Array, scores: Array, left: Array) -> pa.Table:
        place = np.arange(self.k)
        real = place < left[:, None]
        items = pa.array(ids[real], self.ids)
        columns = [items, pa.array(scores[real])]
        if len(self._titles):
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
        if len(self._titles):
            columns["title"] = pa.string()
        if self.layout == "lists":
            return pa.schema({key: kind} | {f"{name}s": pa.list_(type_) for name, type_ in columns.items()})
        return pa.schema({key: kind, "rank": pa.int32()} | columns)


def cuts(sizes: Array) -> Iterator[tuple[int, int]]:
    """Where batches begin and end in requests that are sorted by their ids: at most BATCH and CELLS each."""
    low = 0
    while low < len(sizes):
        high = min(low + BATCH, len(sizes))
        while high - low > 1 and int(sizes[high - 1]) * (high - low) > CELLS:
            high = low + (high - low + 1) // 2
        yield low, high
        low = high


def padded(column: pa.ChunkedArray, blank: str | float, width: int | None = None) -> Array:
    """Lists to one (B, L) array, aligned right; a null is an empty list, and a null in a list is `blank`.

    Args:
        column: of lists.
        blank: '' for text, NaN for float32, an integer for int64.
        width: L; None = the longest list.
    """
    array = column.combine_chunks()
    lengths = _lengths(array)
    width = int(lengths.max(initial=0)) if width is None else width
    kind = object if blank == "" else np.float32 if isinstance(blank, float) else np.int64
    full: Array = np.full((len(array), width), blank, dtype=kind)
    values = array.flatten()
    if values.null_count:
        values = pc.fill_null(values, pa.scalar(blank, values.type))
    full[np.arange(width) >= (width - lengths)[:, None]] = values.to_numpy(zero_copy_only=False)
    return full


def _field(table: pa.Table, name: str) -> Array:
    """(B,) raw values of a field of the request, '' where one is unknown."""
    if f"{CONTEXT}{name}" not in table.column_names:
        return np.full(len(table), "", object)
    column = table[f"{CONTEXT}{name}"].combine_chunks()
    values: Array = pc.fill_null(column, "").to_numpy(zero_copy_only=False)
    return values


def _lengths(column: pa.ChunkedArray | pa.Array) -> Array:
    found: Array = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    return found
