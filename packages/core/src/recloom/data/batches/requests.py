"""Requests whose candidate lists are in the data: what was shown, and what of it was clicked."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..batch import Batch
from ..errors import RecloomError
from .catalog import Catalog


class Impressions(Dataset[Batch]):
    """One request per impression with at least one candidate; history, candidates and labels as recorded.

    Args:
        path: folder of a prepared dataset with `impressions.parquet`.
        catalog: for the indices.
        since, before: only impressions at or after `since` and before `before` (seconds).
    """

    def __init__(self, path: str | Path, catalog: Catalog, since: int, before: int | None) -> None:
        file = Path(path) / "impressions.parquet"
        if not file.is_file():
            raise RecloomError(
                f"candidates='impressions' needs {file.name} in {path}, which MIND has and this dataset lacks. "
                "Use candidates='all'."
            )
        late = pl.lit(True) if before is None else pl.col("timestamp") < before
        table = pl.read_parquet(file, glob=False).filter((pl.col("timestamp") >= since) & late)
        table = table.filter(pl.col("candidates").list.len() > 0)
        table = table.sort(pl.col("candidates").list.len(), maintain_order=True)
        self.user = torch.from_numpy(catalog.user_index(table["user_id"]).copy())
        self.time = torch.from_numpy(table["timestamp"].to_numpy().copy())
        self.history = Lists(table["history"], catalog)
        self.candidates = Lists(table["candidates"], catalog)
        self.labels = torch.from_numpy(
            table["labels"].explode().drop_nulls().cast(pl.Float32).to_numpy().copy()
        )

    def __len__(self) -> int:
        return self.user.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        history, _ = self.history.gather(rows)
        candidates, place = self.candidates.gather(rows)
        labels = self.labels[place] * (candidates > 0)
        return Batch(
            user=self.user[rows],
            history=history,
            history_time=torch.zeros_like(history),
            request_time=self.time[rows],
            candidates=candidates,
            labels=labels,
        )


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
