"""Requests whose candidate lists are in the data: what was shown, and what of it was clicked."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...batch import Batch
from ...errors import RecloomError
from ..catalog import Catalog
from ..interactions import Interactions, repeated


class ImpressionRequests(Dataset[Batch]):
    """One request per impression with at least one candidate; history, candidates and labels as recorded.

    What happened with the items of a recorded history is not recorded, nor the context: their codes are 0.

    Args:
        path: folder of a prepared dataset with `impressions.parquet`.
        catalog: for the indices.
        since, before: only impressions at or after `since` and before `before` (seconds).
        known: leave out those without a history.

    Attributes:
        new: requests without a history.
    """

    def __init__(
        self, path: str | Path, catalog: Catalog, since: int, before: int | None, known: bool = False
    ) -> None:
        table = _impressions(path, since, before, known).collect()
        table = table.sort(pl.col("candidates").list.len(), maintain_order=True)
        self.user = torch.from_numpy(catalog.user_index(table["user_id"]).copy())
        self.time = torch.from_numpy(table["timestamp"].to_numpy().copy())
        self.history = Lists(table["history"], catalog)
        self.candidates = Lists(table["candidates"], catalog)
        self.new = int((self.history.lengths == 0).sum())
        self.num_fields = len(catalog.context)  # impressions do not say what they are
        self.labels = torch.from_numpy(
            table["labels"].explode().drop_nulls().cast(pl.Float32).to_numpy().copy()
        )

    def __len__(self) -> int:
        return self.user.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        history, _ = self.history.gather(rows)
        candidates, place = self.candidates.gather(rows)
        labels = self.labels[place] * (candidates > 0)
        return Batch.of(
            history,
            candidates,
            user=self.user[rows],
            request_time=self.time[rows],
            labels=labels,
            context=torch.zeros(len(rows), self.num_fields, dtype=torch.long),
        )


def count_impressions(path: str | Path, since: int, before: int | None, known: bool = False) -> int:
    """How many requests an `ImpressionRequests` of the same arguments holds."""
    return int(_impressions(path, since, before, known).select(pl.len()).collect().item())


def _impressions(path: str | Path, since: int, before: int | None, known: bool) -> pl.LazyFrame:
    """Those of a period that have a candidate, and a history where `known`."""
    file = Path(path) / "impressions.parquet"
    if not file.is_file():
        raise RecloomError(
            f"candidates='impressions' needs {file.name} in {path}, which MIND has and this dataset lacks. "
            "Use candidates='all'."
        )
    late = pl.lit(True) if before is None else pl.col("timestamp") < before
    table = pl.scan_parquet(file, glob=False).filter((pl.col("timestamp") >= since) & late)
    if known:
        table = table.filter(pl.col("history").list.len().fill_null(0) > 0)
    return table.filter(pl.col("candidates").list.len() > 0)


class Lists:
    """Ragged lists of item ids as flat indices and offsets."""

    def __init__(self, lists: pl.Series, catalog: Catalog) -> None:
        self.lengths = torch.from_numpy(lists.list.len().fill_null(0).cast(pl.Int64).to_numpy().copy())
        self.stops = torch.cumsum(self.lengths, 0)
        flat = lists.filter(lists.list.len() > 0).explode()
        self.items = torch.from_numpy(catalog.item_index(flat).copy())
        if len(self.items) != int(self.lengths.sum()):
            raise RecloomError("impressions.parquet holds empty ids; prepare the data again")

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Right-aligned (B, L) int64 items, 0 on the left, and (B, L) their flat positions (0 where padded)."""
        lengths, width = self.lengths[rows], max(1, int(self.lengths[rows].max()))
        place = self.stops[rows][:, None] + torch.arange(-width, 0)
        real = torch.arange(-width, 0) >= -lengths[:, None]
        place = place.clamp(min=0) * real
        if not self.items.numel():
            return place, place
        return self.items[place] * real, place


def requesting(visible: Interactions, held_out: Interactions, known: bool) -> tuple[Tensor, int]:
    """The users with held-out items, those with a history alone where `known`, and how many of them have none."""
    users = torch.nonzero(held_out.lengths)[:, 0]
    has_history = visible.lengths[users] > 0
    return (users[has_history], 0) if known else (users, int((~has_history).sum()))


class TargetRequests(Dataset[Batch]):
    """One evaluation request per user with held-out items.

    Args:
        visible: what a request may look back on.
        held_out: the items to be found, by user.
        candidates: (C,) int64 items to rank for every request, or (num_users + 1, C) by user.
        known: leave out users without a history.

    Attributes:
        new: requests without a history.
    """

    def __init__(
        self, visible: Interactions, held_out: Interactions, candidates: Tensor, known: bool = False
    ) -> None:
        users, self.new = requesting(visible, held_out, known)
        self.users = users[
            visible.lengths[users].argsort(stable=True)
        ]  # like lengths together: little padding
        self.visible, self.held_out, self.candidates = visible, held_out, candidates

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users = self.users[rows]
        longest = max(1, int(self.visible.lengths[users].max()))
        history, times, events = self.visible.last_rows(users, longest)
        targets, target_times = self.held_out.last(users, int(self.held_out.lengths[users].max()))
        targets = targets.masked_fill(repeated(targets), 0)  # an item bought twice is one item to be found
        asked = target_times.masked_fill(targets == 0, torch.iinfo(torch.int64).max).amin(1)
        shared = self.candidates.dim() == 1
        return Batch.of(
            history,
            self.candidates[None] if shared else self.candidates[users],
            user=users,
            history_time=times,
            request_time=asked,
            labels=targets,
            history_event=events,
            context=self.held_out.context_at(self.held_out.starts[users]),
        )


class LabelledRequests(Dataset[Batch]):
    """One request per user with held-out interactions: these are the candidates, with their labels.

    Args:
        visible: what a request may look back on.
        held_out: the interactions to be told apart; `positive` says which of them are labelled 1.
        known: leave out users without a history.

    Attributes:
        new: requests without a history.
    """

    def __init__(self, visible: Interactions, held_out: Interactions, known: bool = False) -> None:
        users, self.new = requesting(visible, held_out, known)
        # like numbers of candidates together: little padding
        self.users = users[held_out.lengths[users].argsort(stable=True)]
        self.visible, self.held_out, self.labels = visible, held_out, held_out.labels()

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users = self.users[rows]
        longest = max(1, int(self.visible.lengths[users].max()))
        history, times, events = self.visible.last_rows(users, longest)
        width = int(self.held_out.lengths[users].max())
        candidates, asked = self.held_out.last(users, width)  # (B, C)
        real = candidates > 0
        places = (self.held_out.stops[users][:, None] + torch.arange(-width, 0)).clamp(min=0)
        return Batch.of(
            history,
            candidates,
            user=users,
            history_time=times,
            request_time=asked.masked_fill(~real, torch.iinfo(torch.int64).max).amin(1),
            labels=self.labels[places] * real,
            history_event=events,
            context=self.held_out.context_at(self.held_out.starts[users]),
        )
