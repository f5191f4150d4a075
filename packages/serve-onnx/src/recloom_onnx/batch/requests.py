"""Requests in a Parquet file, read in pieces from any row on.

The file holds one row for each request, or it is the `interactions.parquet` of a prepared dataset, whose rows
lie together by user, oldest first. Either way a piece is a table of one row for each request:

    row              int64, of the file, counted from 1 (of a dataset: the user's first)
    user_id          string or int64, if the file has it
    history          list of ids
    history_times    list of int64 seconds, only where the artefact reads times; so is
    request_time     int64 seconds
    exclude, allow   lists of ids, or null: nothing excluded, all allowed
    history_events   list of string or float32, or null, only where the artefact reads events and the file has them
    context: NAME    string or null, a column for each field of the request that the artefact reads and the file has
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from recloom.errors import RecloomError

from ..artifact.manifest import Manifest
from ..artifact.raw_codes import are_values

COLUMNS = ("user_id", "history", "history_times", "request_time", "exclude", "allow", "history_events")
CONTEXT = "context: "
"""Before the name of a field of the request, in the table of a piece."""
TIMES = {"history_time": "history_times", "request_time": "request_time"}
"""Inputs of an artefact that hold times, and the columns that give them."""
EVENTS = ("user_id", "item_id", "timestamp")
EVENT_ROWS = 65_536
"""Interactions read at a time."""


class Piece(NamedTuple):
    """Consecutive requests."""

    table: pa.Table
    next_row: int
    """Rows of the file before the next piece."""


class RequestFile:
    """Requests in a Parquet file.

    Args:
        path: the file, or the folder of a prepared dataset.
        manifest: of the artefact that will answer; it says what is read, and whether ids are text.

    Raises RecloomError where the file is not Parquet, or a column is missing or of another type.
    """

    def __init__(self, path: str | Path, manifest: Manifest) -> None:
        self.path = Path(path) / "interactions.parquet" if Path(path).is_dir() else Path(path)
        self._file = _open(self.path)
        self.num_rows: int = self._file.metadata.num_rows
        found = self._file.schema_arrow
        twice = next((name for name in found.names if found.names.count(name) > 1), None)
        if twice is not None:
            raise RecloomError(f"{self.path} has two columns called {twice!r}; rename or drop one of them.")
        self.events = "item_id" in found.names and "history" not in found.names
        if self.events and not self.path.with_name("dataset.json").is_file():
            raise RecloomError(
                f"{self.path} is a table of interactions that was not prepared, so its rows may lie in any order. "
                f"Prepare it first (recloom data prepare), or give one row for each request: {', '.join(COLUMNS)}."
            )
        self._check(found, manifest)
        times = [column for name, column in TIMES.items() if name in manifest.fields]
        self._event_column = _event_column(manifest)
        ids = self._ids = id_type(manifest)
        self._kinds = {
            "user_id": _key_type(found, self.path),
            "history": pa.list_(ids),
            "history_times": pa.list_(pa.int64()),
            "request_time": pa.int64(),
            "exclude": pa.list_(ids),
            "allow": pa.list_(ids),
            "history_events": pa.list_(pa.float32() if are_values(manifest.events) else pa.string()),
        }
        kept = ["user_id", "history", *times]
        self._context: list[str] = []
        if self.events:
            kept += ["history_events"] if self._event_column in found.names else []
        else:
            optional = ["exclude", "allow", *(["history_events"] if self._event_column else [])]
            kept = [name for name in [*kept, *optional] if name in found.names]
            _check_types(found, {name: self._kinds[name] for name in kept}, self.path)
            self._context = [field.name for field in manifest.context if field.name in found.names]
        self._kinds = {name: self._kinds[name] for name in kept}
        self.key = "user_id" if "user_id" in kept else "row"

    @property
    def key_type(self) -> pa.DataType:
        """Of the column that says whose list it is."""
        return self._kinds["user_id"] if self.key == "user_id" else pa.int64()

    def fingerprint(self) -> dict[str, Any]:
        """What tells this file from another, or from itself after a change, without reading all of it."""
        state = self.path.stat()
        with self.path.open("rb") as file:
            file.seek(-8, 2)
            size = int.from_bytes(file.read(4), "little") + 8
            file.seek(-size, 2)
            footer = hashlib.sha256(file.read()).hexdigest()
        return {"bytes": state.st_size, "modified_ns": state.st_mtime_ns, "footer": footer}

    def pieces(self, start: int, rows: int) -> Iterator[Piece]:
        """Requests after the first `start` rows of the file, at most `rows` in a piece."""
        yield from self._users(start, rows) if self.events else self._rows(start, rows)

    def _check(self, found: pa.Schema, manifest: Manifest) -> None:
        read = {"user_id": "user", "history": "history"} | {column: name for name, column in TIMES.items()}
        needed = {column: name for column, name in read.items() if name in manifest.fields}
        if self.events:
            needed = {"user_id": "user"} | ({"timestamp": "times"} if {*TIMES.values()} & set(needed) else {})
        elif not {"user_id", "history"} & set(found.names):
            needed = {"history": "history"}
        for column, name in needed.items():
            if column not in found.names:
                raise RecloomError(
                    f"{self.path} has no column {column!r}, and the artefact reads {name}; "
                    f"found {', '.join(map(repr, found.names)) or 'no column'}."
                )

    def _rows(self, start: int, rows: int) -> Iterator[Piece]:
        for table, first in self._tables([*self._kinds, *self._context], start, rows):
            columns = {name: self._read(table[name], name, first) for name in self._kinds}
            columns |= {f"{CONTEXT}{name}": _as(table[name], pa.string()) for name in self._context}
            number = pa.array(np.arange(first + 1, first + len(table) + 1))
            yield Piece(self._complete({"row": number, **columns}), first + len(table))

    def _read(self, column: pa.ChunkedArray, name: str, first: int) -> pa.Array:
        try:
            return _as(column, self._kinds[name])
        except pa.ArrowInvalid as error:
            raise RecloomError(
                f"column {name!r} of {self.path} cannot be read as {self._kinds[name]} in rows {first + 1:,} to "
                f"{first + len(column):,}: {error}. Write it as that type."
            ) from error

    def _users(self, start: int, rows: int) -> Iterator[Piece]:
        """Interactions put together by user; the last user of what was read waits for the rest of their rows."""
        columns = [name for name in EVENTS if name != "timestamp" or {*TIMES.values()} & {*self._kinds}]
        columns += [self._event_column] if "history_events" in self._kinds and self._event_column else []
        waiting, first = None, start
        for table, _ in self._tables(columns, start, EVENT_ROWS):
            table = pa.concat_tables([waiting, table]) if waiting else table
            starts = _starts(table["user_id"])
            for low in range(0, len(starts) - 1, rows):
                cut = starts[low : min(low + rows, len(starts) - 1) + 1]
                yield Piece(
                    self._grouped(table.slice(cut[0], cut[-1] - cut[0]), cut, first), first + int(cut[-1])
                )
            waiting, first = table.slice(starts[-1]), first + int(starts[-1])
        if waiting:
            yield Piece(self._grouped(waiting, np.array([0, len(waiting)]), first), first + len(waiting))

    def _grouped(self, events: pa.Table, cut: np.ndarray[Any, Any], first: int) -> pa.Table:
        """One row for each user; `cut` holds where the users of `events` begin, and where the last one ends."""
        offsets = pa.array(cut - cut[0], pa.int32())
        users = events["user_id"].combine_chunks().take(offsets[:-1])
        items = _as(events["item_id"], self._kinds["history"].value_type)
        columns: dict[str, pa.Array] = {
            "row": pa.array(first + cut[:-1] + 1),
            "user_id": _as(users, self._kinds["user_id"]),
            "history": pa.ListArray.from_arrays(offsets, items),
        }
        if "history_times" in self._kinds:
            columns["history_times"] = pa.ListArray.from_arrays(offsets, _seconds(events["timestamp"]))
        if "history_events" in self._kinds:
            happened = _as(events[self._event_column], self._kinds["history_events"].value_type)
            columns["history_events"] = pa.ListArray.from_arrays(offsets, happened)
        if "request_time" in self._kinds:  # as `recloom recommend` does: a second after the last interaction
            last = _seconds(events["timestamp"]).take(pc.subtract(offsets[1:], 1))
            columns["request_time"] = pc.add(last, 1)
        return self._complete(columns)

    def _complete(self, columns: dict[str, pa.Array]) -> pa.Table:
        """With empty histories where the model needs none, and nothing excluded and all allowed by default."""
        rows, ids = len(columns["row"]), self._ids
        if "history" not in columns:
            columns["history"] = pa.ListArray.from_arrays(
                pa.array([0] * (rows + 1), pa.int32()), pa.array([], ids)
            )
        absent = {name: pa.nulls(rows, pa.list_(ids)) for name in ("exclude", "allow") if name not in columns}
        return pa.table(columns | absent)

    def _tables(self, columns: list[str], start: int, rows: int) -> Iterator[tuple[pa.Table, int]]:
        """Tables of at most `rows` rows from row `start` on, each with the number of rows before it."""
        ends = np.cumsum(
            [self._file.metadata.row_group(n).num_rows for n in range(self._file.num_row_groups)]
        )
        group = int(np.searchsorted(ends, start, side="right"))
        if group == len(ends):
            return
        place = int(ends[group - 1]) if group else 0
        groups = range(group, len(ends))
        for batch in self._file.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
            skipped = min(max(start - place, 0), len(batch))
            if skipped < len(batch):
                yield pa.Table.from_batches([batch.slice(skipped)]), place + skipped
            place += len(batch)


def _event_column(manifest: Manifest) -> str | None:
    """The column of a dataset's interactions that says what happened; None where the artefact does not read it."""
    if "history_event" not in manifest.fields:
        return None
    return "event" if manifest.events is None else manifest.events.column


def id_type(manifest: Manifest) -> pa.DataType:
    """Of item ids in requests and lists: string or int64."""
    return pa.int64() if manifest.ids == "integer" else pa.string()


def _open(path: Path) -> pq.ParquetFile:
    """The Parquet file, opened so that columns are read page by page, however large its row groups are."""
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except FileNotFoundError as error:
        raise RecloomError(
            f"{path} does not exist; --users names a Parquet file or a prepared dataset."
        ) from error
    except pa.ArrowInvalid as error:
        raise RecloomError(f"{path} is not a Parquet file, or was cut short: {error}") from error


def _key_type(found: pa.Schema, path: Path) -> pa.DataType:
    if "user_id" not in found.names:
        return pa.string()
    kind = _plain(found.field("user_id").type)
    if not (_textual(kind) or pa.types.is_integer(kind)):
        raise RecloomError(f"column 'user_id' of {path} holds {kind}; expected string or an integer type.")
    return pa.int64() if pa.types.is_integer(kind) else pa.string()


def _check_types(found: pa.Schema, kinds: dict[str, pa.DataType], path: Path) -> None:
    for name, wanted in kinds.items():
        kind = _plain(found.field(name).type)
        inner, target, shape = kind, wanted, ""
        if pa.types.is_list(wanted):
            shape, target = "list of ", wanted.value_type
            inner = _plain(kind.value_type) if _is_list(kind) else kind
        fits = _readable(inner, target, name in TIMES.values())
        if pa.types.is_null(kind) or (fits and _is_list(kind) == pa.types.is_list(wanted)):
            continue
        ids = "string or integers" if pa.types.is_string(target) else "integers"
        ids = "numbers" if pa.types.is_floating(target) else ids
        seconds = "integers (seconds) or timestamps"
        expected = seconds if name in TIMES.values() else ids
        raise RecloomError(f"column {name!r} of {path} is {kind}; expected {shape}{expected}.")


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in kinds)


def _textual(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _readable(kind: pa.DataType, target: pa.DataType, times: bool) -> bool:
    if pa.types.is_null(kind) or pa.types.is_integer(kind):
        return True
    if pa.types.is_floating(target):
        return bool(pa.types.is_floating(kind))
    return pa.types.is_timestamp(kind) if times else pa.types.is_string(target) and _textual(kind)


def _as(column: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.Array:
    """The column as one array of the type; timestamps become whole seconds."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(kind) and _is_list(array.type) and pa.types.is_timestamp(array.type.value_type):
        array = array.cast(pa.list_(pa.timestamp("s", array.type.value_type.tz)), safe=False)
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("s", array.type.tz), safe=False)
    return array.cast(kind)


def _seconds(column: pa.ChunkedArray) -> pa.Array:
    return _as(column, pa.int64())


def _starts(users: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Where each run of one user begins."""
    array = users.combine_chunks()
    changed = pc.fill_null(pc.not_equal(array[1:], array[:-1]), True)
    return np.concatenate([[0], np.flatnonzero(changed.to_numpy(zero_copy_only=False)) + 1])
