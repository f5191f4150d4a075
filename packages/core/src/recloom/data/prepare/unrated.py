"""Values that mean that there is no rating, such as 0 or -1 beside 1 to 10: noted, and left out where named."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...errors import DataError

SPECIAL = (-1.0, 0.0)
"""Numbers that programs write where there is no rating."""
BEYOND = (99.0, -99.0, 999.0, -999.0, 9999.0)
"""Numbers that programs write for it where -1 and 0 are ratings."""
SCALE = 10.0
"""The highest rating of usual scales."""


def no_rating_note(values: pl.Series) -> list[str]:
    """A note where 0 or -1 stands beside ratings from 1 (or 0.5) to at most 10, or 99 beside up to 10; else nothing."""
    distinct = values.unique()
    if beyond := distinct.filter(distinct.is_in(BEYOND)).to_list():
        ratings = [value for value in distinct.to_list() if value not in beyond]
        if len(ratings) < 3 or max(map(abs, ratings)) > SCALE:
            return []
        return [_note(values, beyond, ratings)]
    if len(distinct) > 2 * SCALE + 2:
        return []
    special = [value for value in SPECIAL if value in distinct.to_list()]
    ratings = [value for value in distinct.to_list() if value not in special]
    if not special or len(ratings) < 3 or min(ratings) < 0.5 or max(ratings) > SCALE:
        return []
    return [_note(values, special, ratings)]


def _note(values: pl.Series, special: Sequence[float], ratings: Sequence[float]) -> str:
    count = int(values.is_in(special).sum())
    shown = " and ".join(f"{value:g}" for value in special)
    return (
        f"warning: {count:,} of {len(values):,} values are {shown} beside {min(ratings):g} to {max(ratings):g}. Where "
        f"that means that there is no rating, leave these rows out with --missing-value {special[0]:g}"
    )


def drop_unrated(rows: pl.DataFrame, missing: Sequence[float]) -> tuple[pl.DataFrame, int]:
    """The rows without those whose value is one of `missing`, and how many these are.

    Raises DataError where there are no values, or a number in `missing` is the value of no row.
    """
    if not missing:
        return rows, 0
    if "value" not in rows.columns:
        raise DataError(
            "--missing-value needs a value column, and these data have none. Leave the option out."
        )
    found = pl.Series(missing, dtype=pl.Float32)
    absent = [value for value in found.to_list() if not (rows["value"] == value).any()]
    if absent:
        low, high = rows.select(low=pl.min("value"), high=pl.max("value")).row(0)
        raise DataError(
            f"--missing-value {absent[0]:g} is the value of no row; values run from {low:g} to {high:g}. Leave it out."
        )
    kept = rows.filter(~pl.col("value").is_in(found.implode()))
    return kept, rows.height - kept.height


def rows_left_note(before: pl.DataFrame, kept: pl.DataFrame, missing: Sequence[float]) -> list[str]:
    """A note of the users and items that have no row left without those that have no rating; nothing where all have.

    Args:
        before, kept: interactions with `user_id` and `item_id`, with all rows and without these.
    """
    if before.height == kept.height:
        return []
    lost = {
        name: before[f"{name}_id"].n_unique() - kept[f"{name}_id"].n_unique() for name in ("user", "item")
    }
    if not any(lost.values()):
        return []
    counts = " and ".join(f"{count:,} {name}{'s' * (count != 1)}" for name, count in lost.items() if count)
    have = "has" if sum(lost.values()) == 1 else "have"
    shown = " ".join(f"{value:g}" for value in missing)
    return [f"--missing-value {shown}: {counts} {have} no row left"]
