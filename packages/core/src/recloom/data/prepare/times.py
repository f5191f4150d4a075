"""What the times of a dataset say of themselves: their range, and those that are hardly times of interactions."""

from __future__ import annotations

import time

import polars as pl

from ..readers.numeric_times import DAY, OLDEST


def time_notes(times: pl.Series) -> list[str]:
    """The range of Unix seconds, and warnings of those before 1995 and after today; nothing where there are none."""
    if not times.len():
        return []
    first, last = pl.from_epoch(pl.Series([times.min(), times.max()]), time_unit="s").dt.strftime("%Y-%m-%d")
    notes = [f"times run from {first} to {last}"]
    old, new = int((times < OLDEST).sum()), int((times > int(time.time()) + DAY).sum())
    if old:
        notes.append(
            f"warning: {old:,} of {len(times):,} times lie before 1995, the first on {first}. Are they Unix times? "
            "Say how they are written with --time-format, or take the order of the rows with --time-column none"
        )
    if new:
        notes.append(f"warning: {new:,} of {len(times):,} times lie after today, the last on {last}")
    return notes
