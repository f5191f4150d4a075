"""Raw ids to indices, for a few of them as for a whole log."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

Indices = np.ndarray[Any, np.dtype[np.int64]]


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
