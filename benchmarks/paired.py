"""Means of several seeds with intervals, and paired differences between variants, of runs that were tested.

`tables` is, for each variant, one table of values per user for each seed, as `recloom test` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def rows(tables: dict[str, Any], metrics: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Each variant's means over users and seeds with intervals, and its means of each seed."""
    import polars as pl
    from recloom.evaluation import intervals

    for variant, found in tables.items():
        whole = pl.concat(found)
        names = columns(whole, metrics)
        sure = intervals({n: whole[n].to_numpy() for n in names}, whole["user_id"].to_numpy())
        yield variant, {
            n: {"mean": one.mean, "low": one.low, "high": one.high, "requests": one.n // len(found),
                "of each seed": [table[n].drop_nans().mean() for table in found]}
            for n, one in sure.items()
        }  # fmt: skip


def differences(
    tables: dict[str, Any], pairs: Iterable[tuple[str, str]], metrics: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Each pair of variants: users' means over seeds, paired; p after Holm over all that are shown."""
    from recloom.evaluation import holm, paired_difference

    made = []
    for one, other in pairs:
        mine, theirs = of_users(tables[one], metrics), of_users(tables[other], metrics)
        for metric in columns(mine, metrics):
            if mine[metric].is_nan().all():
                continue
            found = paired_difference(mine[metric].to_numpy(), theirs[metric].to_numpy())
            made.append({"what": one, "against": other, "metric": metric, "difference": found.mean,
                         "low": found.low, "high": found.high, "users": found.n, "p": found.p_value})  # fmt: skip
    for row, p in zip(made, holm([row["p"] for row in made]), strict=True):
        yield row | {"p after Holm": p}


def of_users(found: list[Any], metrics: tuple[str, ...]) -> Any:
    """One row a user: the mean over seeds."""
    import polars as pl

    whole = pl.concat(found)
    return whole.group_by("user_id").agg(pl.col(columns(whole, metrics)).mean()).sort("user_id")


def columns(table: Any, metrics: tuple[str, ...]) -> list[str]:
    """These metrics, of all items and of each segment."""
    return [name for name in table.columns if name.partition("/")[0] in metrics]
