"""Means of several seeds with intervals, and paired differences between variants, of runs that were tested.

`tables` is, for each variant, one table of values per user for each seed, as `recloom test` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def rows(tables: dict[str, Any], metrics: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Each variant's means with intervals over users, and seeds where it has several; and its mean of each seed."""
    from recloom.evaluation.significance import intervals, seeds_interval

    for variant, found in tables.items():
        made = {}
        for name in columns(found[0], metrics):
            values, users = stacked(found, name)
            several = len(values) > 1
            one = seeds_interval(values, users) if several else intervals({name: values[0]}, users)[name]
            made[name] = {"mean": one.mean, "low": one.low, "high": one.high, "requests": one.n,
                          "of each seed": [table[name].drop_nans().mean() for table in found]}  # fmt: skip
        yield variant, made


def differences(
    tables: dict[str, Any], pairs: Iterable[tuple[str, str]], metrics: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Each pair of variants on the same requests; p after Holm over all that are shown.

    Where a side has several seeds, p is of t over users and seeds, as `recloom compare` has it; else of sign flips over
    users, which is right for methods that leave nothing to chance and says nothing of one that was trained once.
    """
    import numpy as np
    from recloom.evaluation.significance import holm, paired_difference, seeds_difference

    made = []
    for one, other in pairs:
        for metric in columns(tables[one][0], metrics):
            (mine, users), (theirs, others) = stacked(tables[one], metric), stacked(tables[other], metric)
            if (users != others).any():
                raise SystemExit(f"{one} and {other} were not tested on the same users: {metric}")
            if np.isnan(mine).all() or np.isnan(theirs).all():
                continue
            if max(mine.shape[0], theirs.shape[0]) > 1:
                found = seeds_difference(mine, theirs, users)
            else:
                found = paired_difference(mine[0], theirs[0], users=users)
            made.append({"what": one, "against": other, "metric": metric, "difference": found.mean,
                         "low": found.low, "high": found.high, "users": found.n, "p": found.p_value})  # fmt: skip
    for row, p in zip(made, holm([row["p"] for row in made]), strict=True):
        yield row | {"p after Holm": p}


def stacked(found: list[Any], name: str) -> tuple[Any, Any]:
    """(S, R) one metric, a row for each seed, and (R,) the user of each request; in the order of users."""
    import numpy as np

    tables = [table.sort("user_id", maintain_order=True) for table in found]
    users = tables[0]["user_id"].to_numpy()
    if any((table["user_id"].to_numpy() != users).any() for table in tables[1:]):
        raise SystemExit("the seeds of one variant were not tested on the same users")
    return np.stack([table[name].to_numpy() for table in tables]), users


def columns(table: Any, metrics: tuple[str, ...]) -> list[str]:
    """These metrics, of all items and of each segment."""
    return [name for name in table.columns if name.partition("/")[0] in metrics]
