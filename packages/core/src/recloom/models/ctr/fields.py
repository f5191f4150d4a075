"""Feature fields: columns of the users or of the items as embedded categories, looked up by index.

    ids                 one category for each user or item that occurs in training
    text                one category for each distinct value
    text with `|`       several categories, such as genres; their vectors are averaged
    numbers             BUCKETS categories between the quantiles of the column

Category 0 is an unknown id, an empty value, or padding; its vector is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from ...data.catalog import COUNTED
from ...errors import RecloomError

BUCKETS = 10
FEW = 1000
"""Distinct values up to which a column is a field without being asked for."""


class Fields(nn.Module):
    """Vectors of some columns of one table of the catalogue.

    Args:
        table: `user_id` or `item_id` first, then attributes; row r is index r + 1.
        columns: the fields, the id among them; None = the id and every column of few values.
        dim: size of a vector.
        std: of the initial vectors.

    Raises RecloomError for a column that is not there or cannot be a field.
    """

    def __init__(
        self, table: pl.DataFrame, columns: Sequence[str] | None, dim: int, std: float = 0.01
    ) -> None:
        super().__init__()
        self.key = table.columns[0]
        self.columns = default_columns(table) if columns is None else _checked(table, columns)
        self.vectors = nn.ModuleList()
        for place, column in enumerate(self.columns):
            codes = _ids(len(table)) if column == self.key else codes_of(table[column])
            # ids are known once training rows are, so they are part of the state
            self.register_buffer(f"codes_{place}", codes, persistent=column == self.key)
            vectors = nn.Embedding(int(codes.max()) + 1, dim, padding_idx=0)
            nn.init.normal_(vectors.weight, std=std)
            with torch.no_grad():
                vectors.weight[0] = 0
            self.vectors.append(vectors)

    def __len__(self) -> int:
        return len(self.columns)

    def learn(self, counts: Tensor) -> None:
        """Turn ids without a training interaction into the unknown id; counts (N + 1,)."""
        if self.key in self.columns:
            place = self.columns.index(self.key)
            known = torch.arange(len(counts)) * (counts > 0)
            self.register_buffer(f"codes_{place}", known[:, None].to(self.codes(place).device))

    def codes(self, place: int) -> Tensor:
        """(N + 1, M) int64 categories of a field, 0 for none."""
        codes: Tensor = getattr(self, f"codes_{place}")
        return codes

    def forward(self, index: Tensor) -> Tensor:
        """(..., F, dim) for indices of any shape."""
        found = [_mean(vectors, self.codes(n)[index]) for n, vectors in enumerate(self.vectors)]
        return torch.stack(found, -2)


def default_columns(table: pl.DataFrame) -> list[str]:
    """The id, and the columns of numbers and of texts with at most FEW distinct values that recur."""
    key, *others = table.columns
    return [key, *(name for name in others if name not in COUNTED and _is_category(table[name]))]


def codes_of(column: pl.Series) -> Tensor:
    """(N + 1, M) int64 categories from 1, in the order of the values; 0 for none, and in row 0."""
    if column.dtype.is_numeric():
        return _buckets(column)
    rows, values = _split(column)
    numbers = values.rank("dense").cast(pl.Int64).to_numpy()
    counts = np.bincount(rows, minlength=len(column))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    codes = np.zeros((len(column) + 1, max(1, int(counts.max(initial=0)))), np.int64)
    codes[rows + 1, place] = numbers
    return torch.from_numpy(codes)


def _buckets(column: pl.Series) -> Tensor:
    values = column.cast(pl.Float64).to_numpy()
    real = np.isfinite(values)
    edges = (
        np.unique(np.quantile(values[real], np.arange(1, BUCKETS) / BUCKETS)) if real.any() else values[:0]
    )
    codes = np.zeros((len(column) + 1, 1), np.int64)
    codes[1:, 0] = np.where(real, 1 + np.searchsorted(edges, values, side="right"), 0)
    return torch.from_numpy(codes)


def _split(column: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """The row (K,) of each value and the values, without empty ones and without repetition in a row."""
    parts = (
        pl.DataFrame({"value": column.cast(pl.String)})
        .with_row_index("row")
        .with_columns(pl.col("value").str.split("|"))
        .explode("value")
        .with_columns(pl.col("value").str.strip_chars())
        .filter(pl.col("value") != "")
        .unique(maintain_order=True)
    )
    return parts["row"].to_numpy(), parts["value"]


def _is_category(column: pl.Series) -> bool:
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return True
    if column.dtype != pl.String:
        return False
    distinct = _split(column)[1].n_unique()
    return 0 < distinct <= min(FEW, len(column) // 2)


def _checked(table: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    for name in columns:
        if name not in table.columns:
            raise RecloomError(
                f"there is no column {name!r} to make a field of; the table of {table.columns[0]} has "
                f"{', '.join(table.columns)}. Name some of these, or leave the option out."
            )
        if name in COUNTED:
            raise RecloomError(
                f"the column {name!r} was computed over held-out interactions too, so it is no field; leave it out"
            )
        kind = table[name].dtype
        if not (kind.is_numeric() or kind in (pl.String, pl.Boolean)):
            raise RecloomError(f"column {name!r} holds {kind}; a field is made of text, numbers or booleans")
    if len(set(columns)) < len(columns):
        raise RecloomError(f"fields must be different columns; found {', '.join(columns)}")
    return list(columns)


def _ids(count: int) -> Tensor:
    return torch.arange(count + 1)[:, None]


def _mean(vectors: nn.Module, codes: Tensor) -> Tensor:
    """(..., dim) from (..., M) categories: the mean of those that are there."""
    found: Tensor = vectors(codes)  # (..., M, dim)
    if codes.shape[-1] == 1:
        return found[..., 0, :]
    return found.sum(-2) / (codes > 0).sum(-1, keepdim=True).clamp(min=1)
