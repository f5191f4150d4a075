"""What happened: flat tensors of items and times, and each user's range in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from ..errors import DataError
from .catalog import Catalog
from .columns import Columns, Ints, encode


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
        events: (N,) uint8 codes of what happened, 0 = unknown, or None where the data do not say.
        context: of each field of a request an (N,) int32 of codes, 0 = unknown.
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
        events: Tensor | None = None,
        context: tuple[Tensor, ...] = (),
    ) -> None:
        self.items, self.times, self.values, self.positive = items, times, values, positive
        self.events, self.context = events, context
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
        return cls.from_columns(catalog.columns(folder, cache), catalog.num_items)

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, catalog: Catalog) -> Interactions:
        """Build from a table with `user_id`, `item_id` and optionally `timestamp`, `value`, `event` and context.

        Rows are put in (user, time) order; equal times keep their order. An id that the catalogue
        does not know is a DataError.
        """
        if "timestamp" not in frame.columns:
            frame = frame.with_columns(pl.int_range(pl.len()).over("user_id").alias("timestamp"))
        ids = catalog.items["item_id"], catalog.users["user_id"]
        return cls.from_columns(encode(frame, *ids, catalog.events, catalog.context), catalog.num_items)

    @classmethod
    def from_columns(cls, columns: Columns, num_items: int) -> Interactions:
        """Tensors over the same memory."""
        return cls(
            _tensor(columns.items), _tensor(columns.times), _tensor(columns.starts), _tensor(columns.stops), num_items,
            None if columns.values is None else _tensor(columns.values),
            events=None if columns.events is None else _tensor(columns.events),
            context=tuple(map(_tensor, columns.context)),
        )  # fmt: skip

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
        codes = torch.full((len(self.items),), -1, dtype=torch.int8)
        codes[self.rows()] = keep.to(torch.int8) - 1  # 0 where kept
        return self.divide(codes, [(0,)])[0]

    def divide(self, codes: Tensor, wanted: Sequence[tuple[int, ...]]) -> list[Interactions]:
        """For each of `wanted` the rows that have one of its codes; one look at the rows finds them all.

        Args:
            codes: (N,) int8 by flat position.

        A result is a view of these tensors where it is one range of each user, as a prefix is; else a copy.
        """
        first, last, users = self._runs(codes)
        found = codes[first]  # (R,)
        return [
            self._of_runs(first, last, users, torch.isin(found, torch.tensor(some, dtype=torch.int8)))
            for some in wanted
        ]

    def _runs(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where runs of equal codes of one user begin, where they end, and whose they are: three (R,) int64."""
        rows = self.rows() if self._gaps() else None
        mine = codes if rows is None else codes[rows]  # (M,)
        if not len(mine):
            return (torch.zeros(0, dtype=torch.long),) * 3
        starts = torch.cumsum(self.lengths, 0) - self.lengths
        begins = torch.ones(len(mine), dtype=torch.bool)
        begins[1:] = mine[1:] != mine[:-1]
        begins[starts[self.lengths > 0]] = True
        place = torch.nonzero(begins)[:, 0]  # (R,)
        ends = torch.cat([place[1:], place.new_tensor([len(mine)])])
        users = torch.searchsorted(starts + self.lengths, place, right=True)
        shift = 0 if rows is None else (self.starts - starts)[users]
        return place + shift, ends + shift, users

    def _gaps(self) -> bool:
        """Whether the users' ranges leave rows out or are in another order than the users."""
        return not (torch.equal(self.stops[:-1], self.starts[1:]) and len(self) == len(self.items))

    def _of_runs(self, first: Tensor, last: Tensor, users: Tensor, chosen: Tensor) -> Interactions:
        first, last, users = first[chosen], last[chosen], users[chosen]
        apart = (users[1:] != users[:-1]) | (first[1:] != last[:-1])  # else a run goes on where another ends
        edge = apart.new_ones(min(1, len(users)))
        begins, ends = torch.cat([edge, apart]), torch.cat([apart, edge])
        first, last, users = first[begins], last[ends], users[begins]
        counts = torch.zeros(self.num_users + 1, dtype=torch.long).index_add(0, users, last - first)
        if bool((users[1:] != users[:-1]).all()):  # at most one range per user
            low = torch.zeros_like(counts).index_copy(0, users, first)
            return self._with(low, low + counts)
        stops = torch.cumsum(counts, 0)
        return self._with(stops - counts, stops, ranges(first, last - first))

    def _with(self, starts: Tensor, stops: Tensor, rows: Tensor | None = None) -> Interactions:
        """Other ranges, of the same tensors or of a copy of `rows`."""

        def taken(column: Tensor) -> Tensor:
            return column if rows is None else column[rows]

        return Interactions(
            taken(self.items), taken(self.times), starts, stops, self.num_items,
            None if self.values is None else taken(self.values), self.positive,
            None if self.events is None else taken(self.events), tuple(map(taken, self.context)),
        )  # fmt: skip

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
        return self._window(*_places(starts, stops, length))

    def last_events(self, users: Tensor, length: int) -> Tensor:
        """The codes of what happened in the rows that `last` gives: (B, length) int64, 0 = unknown or padding."""
        return self._events(*_places(self.starts[users], self.stops[users], length))

    def last_rows(self, users: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """What `last` and `last_events` give: items, times and events."""
        return self.window_rows(self.starts[users], self.stops[users], length)

    def window_rows(self, starts: Tensor, stops: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Items, times and events of what `window` gives."""
        position, real = _places(starts, stops, length)
        return *self._window(position, real), self._events(position, real)

    def _window(self, position: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        if not self.items.numel():
            return torch.zeros_like(position), torch.zeros_like(position)
        return self.items[position].long() * real, self.times[position] * real

    def _events(self, position: Tensor, real: Tensor) -> Tensor:
        if self.events is None or not self.events.numel():
            return torch.zeros_like(position)
        return self.events[position].long() * real

    def context_at(self, places: Tensor) -> Tensor:
        """(B, F) int64 codes of the fields of the request at flat positions (B,)."""
        if not self.context:
            return torch.zeros(len(places), 0, dtype=torch.long)
        return torch.stack([field[places].long() for field in self.context], 1)

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


def _places(starts: Tensor, stops: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(B, length) flat positions of the last rows of ranges, and which of them are in their range."""
    position = stops[:, None] + torch.arange(-length, 0)
    real = position >= starts[:, None]
    return position.clamp_(min=0), real


def _tensor(column: Ints) -> Tensor:
    with warnings.catch_warnings():  # mapped columns are read-only, and nothing here writes to them
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(column)
