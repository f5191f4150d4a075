"""What happened: flat tensors of items and times, and each user's range in them."""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ..errors import DataError
from .catalog import Catalog


class Interactions:
    """Interactions of all users, each user's in time order.

    Args:
        items: (N,) int32 item indices from 1.
        times: (N,) int64 seconds, or positions where the source has no time.
        starts, stops: (num_users + 1,) int64; user u owns the flat positions `starts[u]:stops[u]`.
            Row 0 is the unknown user and is empty. Ranges may leave gaps: a prefix of every
            user is a view, not a copy.
        num_items: size of the catalogue.
        values: (N,) float32 such as ratings, or None.
        positive: the value from which an interaction is labelled 1, or None.
    """

    def __init__(
        self,
        items: Tensor,
        times: Tensor,
        starts: Tensor,
        stops: Tensor,
        num_items: int,
        values: Tensor | None = None,
        positive: float | None = None,
    ) -> None:
        self.items, self.times, self.values, self.positive = items, times, values, positive
        self.starts, self.stops = starts, stops
        self.num_items = num_items
        self.num_users = starts.numel() - 1
        self.lengths = stops - starts  # (num_users + 1,)

    def __len__(self) -> int:
        return int(self.lengths.sum())

    def __repr__(self) -> str:
        return f"Interactions({len(self):,} rows, {self.num_users:,} users, {self.num_items:,} items)"

    @classmethod
    def load(cls, folder: str | Path, catalog: Catalog, cache: bool = True) -> Interactions:
        """Read a prepared dataset; the encoded columns are kept in an Arrow file and mapped, not copied."""
        folder = Path(folder)
        source = folder / "interactions.parquet"
        if not source.is_file():
            raise DataError(f"{folder} holds no interactions.parquet; make it with `recloom data prepare`.")
        stamp = source.stat()
        name = f"encoded-{stamp.st_size:x}-{stamp.st_mtime_ns:x}-{catalog.digest()}.arrow"
        encoded = folder / ".cache" / name
        if cache and encoded.is_file():
            return cls._mapped(encoded, catalog)
        frame = pl.read_parquet(source, glob=False)
        columns = _encode(frame, catalog)
        if cache and _write_arrow(encoded, columns):
            return cls._mapped(encoded, catalog)
        return cls._from_columns(columns, catalog)

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, catalog: Catalog) -> Interactions:
        """Build from a table with `user_id`, `item_id` and optionally `timestamp` and `value`.

        Rows are put in (user, time) order; equal times keep their order. An id that the catalogue
        does not know is a DataError.
        """
        if "timestamp" not in frame.columns:
            frame = frame.with_columns(pl.int_range(pl.len()).over("user_id").alias("timestamp"))
        return cls._from_columns(_encode(frame, catalog), catalog)

    @classmethod
    def _from_columns(cls, columns: dict[str, np.ndarray[Any, Any]], catalog: Catalog) -> Interactions:
        counts = np.bincount(columns["user"], minlength=catalog.num_users + 1)
        stops = torch.from_numpy(np.cumsum(counts))
        with warnings.catch_warnings():  # mapped columns are read-only, and nothing here writes to them
            warnings.simplefilter("ignore", UserWarning)
            tensors = {name: torch.from_numpy(column) for name, column in columns.items() if name != "user"}
        return cls(
            tensors["item"], tensors["time"], stops - torch.from_numpy(counts), stops, catalog.num_items,
            tensors.get("value"),
        )  # fmt: skip

    @classmethod
    def _mapped(cls, path: Path, catalog: Catalog) -> Interactions:
        import pyarrow as pa

        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        columns = {
            name: table[name].chunk(0).to_numpy(zero_copy_only=True) if len(table) else table[name].to_numpy()
            for name in table.column_names
        }
        return cls._from_columns(columns, catalog)

    def rows(self) -> Tensor:
        """(M,) flat positions of all rows, user by user."""
        return ranges(self.starts, self.lengths)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """(M,) user indices and (M,) item indices of all rows, int64."""
        users = torch.repeat_interleave(torch.arange(self.num_users + 1), self.lengths)
        return users, self.items[self.rows()].long()

    def item_counts(self) -> Tensor:
        """(num_items + 1,) int64: how often each item occurs."""
        return torch.bincount(self.pairs()[1], minlength=self.num_items + 1)

    def select(self, keep: Tensor) -> Interactions:
        """The rows where `keep` (M,) bool holds, in the same order; a view where that is one range per user."""
        users = torch.repeat_interleave(torch.arange(self.num_users + 1), self.lengths)[keep]
        rows = self.rows()[keep]
        counts = torch.bincount(users, minlength=self.num_users + 1)
        first = torch.cumsum(counts, 0) - counts  # where each user begins in `rows`
        has = counts > 0
        low = torch.zeros_like(counts)
        low[has] = rows[first[has]]
        if torch.equal(rows, ranges(low, counts)):
            return Interactions(
                self.items, self.times, low, low + counts, self.num_items, self.values, self.positive
            )
        values = None if self.values is None else self.values[rows]
        return Interactions(
            self.items[rows], self.times[rows], first, first + counts, self.num_items, values, self.positive
        )

    def labels(self) -> Tensor:
        """(N,) float32 by flat position: 1 where the value is at least `positive`, else 0."""
        if self.positive is None:
            raise DataError(
                "labels need the value from which an interaction is positive. Set --data.positive, such as 4 for "
                "ratings of 1 to 5."
            )
        if self.values is None:
            raise DataError(
                f"positive={self.positive:g} reads the column `value` of the interactions, such as ratings, and "
                "these data have none. Prepare them with their values, or use a recommender that needs no labels."
            )
        if self.values.isnan().any():
            raise DataError(
                f"positive={self.positive:g} needs the value of every interaction; "
                f"{int(self.values.isnan().sum()):,} of {len(self.values):,} rows have none. Leave these rows out."
            )
        return (self.values >= self.positive).float()

    def last(self, users: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The last `length` items and times of each user: two (B, length) int64, 0 on the left if fewer."""
        return self.window(self.starts[users], self.stops[users], length)

    def window(self, starts: Tensor, stops: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The last `length` rows of the flat ranges `starts:stops` (B,), as `last` does for users."""
        position = stops[:, None] + torch.arange(-length, 0)  # (B, L)
        real = position >= starts[:, None]
        position.clamp_(min=0)
        if not self.items.numel():
            return torch.zeros_like(position), torch.zeros_like(position)
        return self.items[position].long() * real, self.times[position] * real

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether each pair occurred: bool, of the shape that `users` and `items` broadcast to."""
        wanted = users * (self.num_items + 1) + items
        if not self._keys.numel():
            return torch.zeros_like(wanted, dtype=torch.bool)
        place = torch.searchsorted(self._keys, wanted).clamp_(max=self._keys.numel() - 1)
        found: Tensor = torch.eq(self._keys[place], wanted)
        return found

    def draw_unseen(self, users: Tensor, count: int) -> Tensor:
        """Uniform draws from the items that each user (N,) never had: (N, count) int64.

        Exact, without rejection: the r-th unseen item is r + 1 plus the number of seen items before it.
        A user who had every item gets uniform draws from all.
        """
        first, before = self._unseen
        free = self.num_items - (first[users + 1] - first[users])  # (N,)
        all_seen = free == 0
        free = torch.where(all_seen, self.num_items, free)[:, None]
        r = (torch.rand(len(users), count, dtype=torch.float64) * free).long().clamp_(max=self.num_items - 1)
        passed = torch.searchsorted(before, users[:, None] * (self.num_items + 1) + r, right=True)
        passed -= first[users][:, None]
        items: Tensor = r + 1 + passed.masked_fill(all_seen[:, None], 0)
        return items

    @cached_property
    def _keys(self) -> Tensor:
        """Distinct pairs as user * (num_items + 1) + item, sorted."""
        users, items = self.pairs()
        keys: Tensor = torch.unique(users * (self.num_items + 1) + items)
        return keys

    @cached_property
    def _unseen(self) -> tuple[Tensor, Tensor]:
        """Where each user's distinct items begin, and by user how many unseen items stand before each of them."""
        users = self._keys // (self.num_items + 1)
        counts = torch.bincount(users, minlength=self.num_users + 1)
        first = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
        nth = torch.arange(len(users)) - first[users]
        return first, self._keys - 1 - nth


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Concatenate `arange(start, start + length)` of all rows: (sum of lengths,) int64."""
    before = torch.cumsum(lengths, 0) - lengths
    return torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - before, lengths)


def repeated(rows: Tensor) -> Tensor:
    """Where a row holds a value that stands further left already: (U, N) bool."""
    ordered, order = rows.sort(dim=1, stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(again).scatter(1, order, again)


def _encode(frame: pl.DataFrame, catalog: Catalog) -> dict[str, np.ndarray[Any, Any]]:
    """Columns user, item, time (and value) as flat arrays, sorted by user and time, stable."""
    user = catalog.user_index(frame["user_id"])
    item = catalog.item_index(frame["item_id"])
    for name, codes in (("user_id", user), ("item_id", item)):
        if len(codes) and codes.min() == 0:
            row = int(np.argmin(codes))
            raise DataError(
                f"row {row + 1} of the interactions has {name} {frame[name][row]!r}, which the catalogue "
                "does not list. Prepare the data again, so that tables and interactions agree."
            )
    time = frame["timestamp"].cast(pl.Int64).to_numpy()
    columns: dict[str, np.ndarray[Any, Any]] = {"user": user, "item": item.astype(np.int32), "time": time}
    if "value" in frame.columns:
        columns["value"] = frame["value"].cast(pl.Float32).to_numpy()
    step = np.diff(user)
    if len(step) and ((step < 0) | ((step == 0) & (np.diff(time) < 0))).any():
        order = np.lexsort([time, user])  # stable: equal times keep file order
        columns = {name: column[order] for name, column in columns.items()}
    return columns


def _write_arrow(path: Path, columns: dict[str, np.ndarray[Any, Any]]) -> bool:
    """Write the cache atomically; False where the folder cannot be written."""
    import pyarrow as pa

    temporary = path.with_suffix(f".{np.random.default_rng().integers(1 << 40):x}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        table = pa.table(columns)
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        return False
    return True
