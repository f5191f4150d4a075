"""The rows of a prepared dataset as integer columns, and each user's range in them. Nothing here imports torch.

Ids are encoded once and kept in an Arrow file in `.cache` beside the dataset, which is mapped and not copied.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..errors import DataError
from ..io import whole_file
from ..schemas import ContextField, EventCodes

Indices = np.ndarray[Any, np.dtype[np.int64]]
Ints = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Columns:
    """Rows of interactions, user by user, each user's in time order; N rows, U users.

    Attributes:
        items: (N,) int32 item index from 1.
        times: (N,) int64 seconds, or positions where the source has no time.
        starts, stops: (U + 1,) int64; user u owns the rows `starts[u]:stops[u]`. Row 0 is the unknown user: empty.
        values: (N,) float32 such as ratings, or None.
        events: (N,) uint8 codes of what happened, 0 = unknown, or None.
        context: of each field an (N,) int32 of codes, 0 = unknown.
        order: (N,) int64 the row of the file that each row here was; None where the file is in this order, as
            `recloom data prepare` writes it.
    """

    items: Ints
    times: Ints
    starts: Ints
    stops: Ints
    values: Ints | None = None
    events: Ints | None = None
    context: tuple[Ints, ...] = ()
    order: Ints | None = None

    def tied(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(N,) whether a row shares user and time with a neighbour, so that its place is not told by time."""
        same = np.zeros(
            len(self.times) + 1, bool
        )  # of each row: whether the one before it is such a neighbour
        same[1:-1] = self.times[1:] == self.times[:-1]
        same[self.starts] = False
        found: np.ndarray[Any, np.dtype[np.bool_]] = same[:-1] | same[1:]
        return found


def load_columns(
    folder: str | Path,
    items: pl.Series,
    users: pl.Series,
    events: EventCodes | None = None,
    context: Sequence[ContextField] = (),
    cache: bool = True,
    ids: str = "",
) -> Columns:
    """Read `interactions.parquet` of a prepared dataset, or what was kept of it.

    Args:
        items, users: raw ids; the id in row r has index r + 1.
        events, context: how codes are given, as in dataset.json.
        cache: keep the columns beside the dataset, where it can be written.
        ids: `ids_digest` of items and users, where it is known already.

    Raises DataError where there is no such file, or for an id that is not among those given.
    """
    source = Path(folder) / "interactions.parquet"
    if not source.is_file():
        raise DataError(f"{folder} holds no interactions.parquet; make it with `recloom data prepare`.")
    stamp = source.stat()
    codes = "-" + codes_digest(events, context) if events or context else ""
    ids = ids or ids_digest(items, users)
    kept = source.parent / ".cache" / f"columns-{stamp.st_size:x}-{stamp.st_mtime_ns:x}-{ids}{codes}.arrow"
    if cache and kept.is_file():
        return _mapped(kept, len(users), len(context))
    flat = _encoded(pl.read_parquet(source, glob=False), items, users, events, context)
    if cache and _write_arrow(kept, flat):
        return _mapped(kept, len(users), len(context))
    return _ranged(flat, len(users), len(context))


def encode(
    frame: pl.DataFrame,
    items: pl.Series,
    users: pl.Series,
    events: EventCodes | None = None,
    context: Sequence[ContextField] = (),
) -> Columns:
    """The columns of a table with `user_id`, `item_id`, `timestamp`; other arguments and errors as above."""
    return _ranged(_encoded(frame, items, users, events, context), len(users), len(context))


def codes_digest(events: EventCodes | None, context: Sequence[ContextField]) -> str:
    """8 hex digits that are equal exactly where equal codes mean equal things."""
    facts = [events.digest() if events else "", *(field.digest() for field in context)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def ids_digest(items: pl.Series, users: pl.Series) -> str:
    """16 hex digits that are equal exactly for equal item and user ids in equal order."""
    return str(hash_ids(items, users).hexdigest()[:16])


def hash_ids(items: pl.Series, users: pl.Series) -> Any:
    """The sha256 object after both lists of ids, so that more can be added."""
    found = hashlib.sha256()
    for series in (items, users):
        found.update(f"{len(series)}:".encode())
        joined = pl.concat_str(series.str.len_chars().cast(pl.String), pl.lit(":"), series, separator="")
        text = series.to_frame().select(joined.str.join("")).item() if len(series) else ""
        found.update(text.encode())
    return found


def event_codes(column: pl.Series, events: EventCodes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Codes of raw events or values: 0 where one is missing, a word that is no event, or no number.

    A number always has a code, by the cuts that it reaches: where values themselves are events, one between two of
    them has the code of the lower. `listed_values` tells such numbers apart.
    """
    if not events.cuts:
        return IdTable(pl.Series(events.names)).index(column).astype(np.uint8)
    values = _floats(column)
    found = 1 + np.searchsorted(np.asarray(events.cuts, np.float32), values, side="right")
    return np.where(np.isnan(values), 0, found).astype(np.uint8)


def listed_values(column: pl.Series, events: EventCodes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(N,) whether each number is an event itself; all True where events are words, or intervals between given cuts."""
    listed = events.listed
    return (
        np.ones(len(column), bool)
        if listed is None
        else np.isin(_floats(column), np.asarray(listed, np.float32))
    )


def _floats(column: pl.Series) -> np.ndarray[Any, np.dtype[np.float32]]:
    return column.cast(pl.Float32, strict=False).fill_null(float("nan")).to_numpy()


def _encoded(
    frame: pl.DataFrame,
    items: pl.Series,
    users: pl.Series,
    events: EventCodes | None,
    context: Sequence[ContextField],
) -> dict[str, Ints]:
    """Flat arrays by name, in order of user and time; `row` where the table was in another order."""
    user, item = _indices(frame, "user_id", users), _indices(frame, "item_id", items)
    time = frame["timestamp"].cast(pl.Int64).to_numpy()
    found: dict[str, Ints] = {"user": user.astype(np.int32), "item": item.astype(np.int32), "time": time}
    if "value" in frame.columns:
        found["value"] = frame["value"].cast(pl.Float32).to_numpy()
    if events is not None and events.column in frame.columns:
        found["event"] = event_codes(frame[events.column], events)
    for place, field in enumerate(context):
        absent = np.zeros(len(user), np.int32)
        table = IdTable(pl.Series(field.values, dtype=pl.String))
        here = field.name in frame.columns
        found[f"context_{place}"] = table.index(frame[field.name]).astype(np.int32) if here else absent
    step = np.diff(user)
    if len(step) and ((step < 0) | ((step == 0) & (np.diff(time) < 0))).any():
        order = np.lexsort([time, user])  # stable: equal times keep file order
        found = {name: column[order] for name, column in found.items()} | {"row": order.astype(np.int64)}
    return found


def _indices(frame: pl.DataFrame, key: str, ids: pl.Series) -> Indices:
    codes = IdTable(ids).index(frame[key])
    if len(codes) and codes.min() == 0:
        row = int(np.argmin(codes))
        raise DataError(
            f"row {row + 1} of the interactions has {key} {frame[key][row]!r}, which the catalogue "
            "does not list. Prepare the data again, so that tables and interactions agree."
        )
    return codes


def _ranged(flat: dict[str, Ints], num_users: int, num_fields: int) -> Columns:
    bounds = np.searchsorted(flat["user"], np.arange(num_users + 2, dtype=np.int32)).astype(np.int64)
    return Columns(
        flat["item"], flat["time"], bounds[:-1], bounds[1:], flat.get("value"), flat.get("event"),
        tuple(flat[f"context_{place}"] for place in range(num_fields)), flat.get("row"),
    )  # fmt: skip


def _mapped(path: Path, num_users: int, num_fields: int) -> Columns:
    import pyarrow as pa

    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    flat = {
        name: table[name].chunk(0).to_numpy(zero_copy_only=True) if len(table) else table[name].to_numpy()
        for name in table.column_names
    }
    return _ranged(flat, num_users, num_fields)


def _write_arrow(path: Path, columns: dict[str, Ints]) -> bool:
    """Write the cache atomically; False where the folder cannot be written."""
    import pyarrow as pa

    table = pa.table(columns)
    try:
        path.parent.mkdir(exist_ok=True)
        with (
            whole_file(path) as partial,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    except OSError:
        return False
    return True


class IdTable:
    """The indices, from 1, of unique ids.

    Args:
        ids: (N,) unique strings.
    """

    def __init__(self, ids: pl.Series) -> None:
        self.ids = ids

    def index(self, asked: Iterable[Any]) -> Indices:
        """Indices of the ids asked for; 0 where one is unknown."""
        series = asked if isinstance(asked, pl.Series) else pl.Series([*map(str, asked)], dtype=pl.String)
        text = series.cast(pl.String)
        return self._searched(text) if len(text) < len(self.ids) else self._hashed(text)

    def _searched(self, asked: pl.Series) -> Indices:
        """For fewer than there are ids: O(log N) each."""
        ids, index = self._sorted
        place = ids.search_sorted(asked).clip(0, len(ids) - 1)
        known = (ids.gather(place) == asked).fill_null(False)
        return np.where(known.to_numpy(), index[place.to_numpy()], 0)

    def _hashed(self, asked: pl.Series) -> Indices:
        """For many: polars builds a table of all N ids at every call, and then each takes O(1)."""
        codes = asked.cast(self._categories, strict=False).to_physical().cast(pl.Int64) + 1
        return codes.fill_null(0).to_numpy()

    @cached_property
    def _sorted(self) -> tuple[pl.Series, Indices]:
        order = self.ids.arg_sort()
        return self.ids.gather(order), order.to_numpy().astype(np.int64) + 1

    @cached_property
    def _categories(self) -> pl.Enum:
        return pl.Enum(self.ids)
