"""Ids to codes, and the order of interactions: users as they first appear, each user's rows in time order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

Codes = np.ndarray[Any, np.dtype[np.uint32]]
Rows = np.ndarray[Any, np.dtype[np.uint32]]
Keys = np.ndarray[Any, np.dtype[np.uint64]]
Times = np.ndarray[Any, np.dtype[np.int64]]


def settle_numpy() -> None:
    """Let Polars find numpy once, in this thread: two threads that do it together can fail.

    Polars refers to numpy by a proxy that replaces itself with the module when it is first used.
    """
    pl.Series(np.zeros(1))


def factorise(ids: pl.Series) -> tuple[Codes, pl.Series]:
    """Codes (N,) from 0 in order of first appearance, and the distinct ids (String) by code.

    Args:
        ids: texts, or numbers that `as_numbers` made of them.
    """
    ids = as_numbers(ids) if len(ids) else ids.cast(pl.String)
    if ids.dtype == pl.String:
        values = ids.unique(maintain_order=True)
        return ids.cast(pl.Enum(values)).to_physical().cast(pl.UInt32).to_numpy(), values
    codes, distinct = _by_first(ids.to_numpy())
    return codes, pl.Series(ids.name, distinct).cast(pl.String)


def as_numbers(ids: pl.Series) -> pl.Series:
    """Ids as Int64 where each is a canonical whole number (`7`, not `007` or `+7`) of modest size; else as they are.

    As text the numbers are the ids again.
    """
    if ids.dtype != pl.String or not len(ids) or ids.head(1000).cast(pl.Int64, strict=False).null_count():
        return ids
    numbers = ids.cast(pl.Int64, strict=False).rechunk()
    return numbers if not numbers.null_count() and _canonical(numbers.to_numpy(), ids) else ids


def _canonical(whole: np.ndarray[Any, np.dtype[np.int64]], ids: pl.Series) -> bool:
    """Whether the texts are those of the numbers, and these of modest size.

    A number has at least as many characters as digits, so equal totals prove that all are canonical.
    """
    low, high = int(whole.min()), int(whole.max())
    if low < 0 or high > max(10_000_000, 4 * len(ids)):
        return False
    counts = np.bincount(whole)
    digits = sum(int(counts[10**k :].sum()) for k in range(1, len(str(high)))) + len(whole)
    return digits == int(ids.str.len_bytes().cast(pl.Int64).sum())


def _by_first(
    whole: np.ndarray[Any, np.dtype[np.int64]],
) -> tuple[Codes, np.ndarray[Any, np.dtype[np.int64]]]:
    first = np.full(int(whole.max()) + 1, len(whole), np.uint32)
    rows = np.arange(len(whole) - 1, -1, -1, dtype=np.uint32)
    first[whole[::-1]] = rows  # the last write wins: the first row of each id
    distinct = np.flatnonzero(first < len(whole))
    distinct = distinct[np.argsort(first[distinct])]
    code_of = np.zeros(len(first), np.uint32)
    code_of[distinct] = np.arange(len(distinct), dtype=np.uint32)
    return code_of[whole], distinct


def in_order(users: Codes, times: Times | None) -> Rows:
    """(N,) rows sorted by user, then time; equal ones keep their order.

    Two sorts of 64-bit keys that end in the row's place, by time and then by user: keys are distinct,
    so the order is stable whatever the sort, and sorting plain numbers is several times faster than
    sorting rows.
    """
    rows = np.arange(len(users), dtype=np.uint64)
    if times is not None and len(times):
        first = times.min()
        if int(times.max()) - int(first) >= 1 << (64 - _bits(rows)):
            return np.lexsort((times, users)).astype(np.uint32)
        by_time = _by_key((times - first).view(np.uint64), rows)
        by_user = _by_key(users.take(_places(by_time)).astype(np.uint64), rows)
        return by_time.astype(np.uint32).take(_places(by_user))
    return _by_key(users.astype(np.uint64), rows).astype(np.uint32)


def _places(rows: Keys) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The rows in the type that numpy takes places in, without a copy."""
    return rows.view(np.int64)


def rows_each(users: Codes, num_users: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(U,) how many rows each user has, of rows sorted by user."""
    return np.diff(np.searchsorted(users, np.arange(num_users + 1, dtype=users.dtype)))


def gathered(columns: Mapping[str, tuple[pl.Series, Rows | Codes]]) -> pl.DataFrame:
    """What each column holds in the rows beside it, as many for each column; the columns at once, on all cores."""
    return pl.select(
        pl.lit(column.rechunk()).gather(pl.lit(pl.Series(rows))).alias(name)
        for name, (column, rows) in columns.items()
    )


def _bits(rows: Keys) -> int:
    return len(rows).bit_length()


def _by_key(keys: Keys, rows: Keys) -> Keys:
    """`rows` sorted by their keys, equal keys in order of `rows`."""
    if (keys[1:] >= keys[:-1]).all():
        return rows
    shift = np.uint64(_bits(rows))
    keys <<= shift
    keys |= rows
    keys.sort()
    keys &= (np.uint64(1) << shift) - np.uint64(1)
    return keys


def repeats(users: Codes, items: Codes, times: Times) -> Rows:
    """Positions, in rows sorted by user and time, that repeat an earlier (user, item, time)."""
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    if not same.any():
        return np.zeros(0, np.uint32)
    tied = np.flatnonzero(np.concatenate([same, [False]]) | np.concatenate([[False], same]))
    keys = pl.DataFrame({"user": users[tied], "item": items[tied], "time": times[tied]})
    again = ~keys.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    found: Rows = tied[again].astype(np.uint32)
    return found


def positions(users: Codes) -> np.ndarray[Any, np.dtype[np.int64]]:
    """0, 1, 2, ... within each run of equal users."""
    starts = (
        np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]])) if len(users) else np.zeros(0, int)
    )
    lengths = np.diff(np.append(starts, len(users)))
    return np.arange(len(users)) - np.repeat(starts, lengths)
