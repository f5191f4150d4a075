"""Bootstrap intervals of means over users, and paired tests of two runs.

Users are the unit of chance: a user's requests are drawn, or change sign, together (the bootstrap by cluster,
Davison and Hinkley 1997). Resamples are drawn in blocks, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import RecloomError

Array = NDArray[np.float64]
LEVEL = 0.95
BLOCK = 2**21
"""Draws held in memory at a time; blocks that fit the cache are the fastest."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % percentile bootstrap interval; NaN bounds with values for fewer than two users."""

    mean: float
    low: float
    high: float
    n: int
    """Requests with a value."""
    undefined: int
    """Requests without one, such as users without a relevant item."""


@dataclass(frozen=True)
class Difference:
    """Mean paired difference `ours - theirs`, its interval, and two tests of "there is none", two-sided."""

    mean: float
    low: float
    high: float
    n: int
    p_value: float
    """By sign flips: how often a difference as large appears when each user's sign is a coin's."""
    p_bootstrap: float
    """From the share of resamples on the other side of zero."""


def intervals(
    values: Mapping[str, Array],
    users: NDArray[np.generic] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """The mean of each metric over requests, with an interval.

    values: metric to (R,) floats, NaN where undefined. users (R,): who made each request; without it each
    request is a user of its own. All metrics share the same resamples.
    """
    if not values:
        return {}
    sums, counts = _per_user(np.stack(list(values.values()), axis=1), users)
    low, high = _percentiles(_bootstrap(sums, counts, resamples, seed))
    found = {}
    for column, name in enumerate(values):
        n, sure = int(counts[:, column].sum()), (counts[:, column] > 0).sum() > 1
        found[name] = Interval(
            mean=float(sums[:, column].sum() / n) if n else float("nan"),
            low=float(low[column]) if sure else float("nan"),
            high=float(high[column]) if sure else float("nan"),
            n=n,
            undefined=len(values[name]) - n,
        )
    return found


def bounds_of_draws(
    functions: Mapping[str, Callable[[Array], Array]], users: int, *, resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Bounds of the 95 % interval of metrics that are more than a mean over requests.

    functions: metric to what gives (D,) values for (D, U) weights, how often each of U users was drawn; NaN where
    undefined. Draws are those of `intervals`. Bounds are NaN for fewer than two users, and where no draw has a value.
    """
    if not functions:
        return {}
    blocks = [
        [function(weights) for function in functions.values()] for weights in _draws(users, resamples, seed)
    ]
    found = {}
    for name, values in zip(functions, zip(*blocks, strict=True), strict=True):
        column = np.concatenate(values)[:, None]  # (D, 1)
        low, high = _percentiles(column)[:, 0].tolist()
        sure = users > 1 and not np.isnan(column).all()
        found[name] = (low, high) if sure else (float("nan"), float("nan"))
    return found


def paired_difference(
    ours: Array,
    theirs: Array,
    users: NDArray[np.generic] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compare two runs on the same requests, in the same order; a request undefined in either is left out.

    Raises RecloomError when the two differ in length or fewer than two users remain.
    """
    if ours.shape != theirs.shape:
        raise RecloomError(
            f"paired_difference: expected the same requests twice, found {len(ours)} and {len(theirs)}; "
            "join the two runs by user first."
        )
    sums, counts = _per_user((ours - theirs)[:, None], users)
    kept = counts[:, 0] > 0
    sums, counts = sums[kept], counts[kept]
    if len(sums) < 2:
        raise RecloomError(
            f"paired_difference: expected at least two users with a value in both runs, found {len(sums)}; "
            "evaluate more users."
        )
    means = _bootstrap(sums, counts, resamples, seed)
    low, high = _percentiles(means)
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return Difference(
        mean=float(sums.sum() / counts.sum()),
        low=float(low[0]),
        high=float(high[0]),
        n=int(counts.sum()),
        p_value=_sign_flip(sums[:, 0], resamples, seed),
        p_bootstrap=float(min(1.0, 2 * (1 + beyond) / (1 + resamples))),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number, step down (Holm 1979); reject where the result is below the level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    return [float(value) for value in adjusted]


def _per_user(values: Array, users: NDArray[np.generic] | None) -> tuple[Array, Array]:
    """From (R, M) to the sum of each user's defined values and their number, both (U, M)."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    if users is None:
        return filled, known.astype(np.float64)
    _, group = np.unique(users, return_inverse=True)
    order = np.argsort(group, kind="stable")
    start = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.add.reduceat(filled[order], start), np.add.reduceat(known[order].astype(np.float64), start)


def _bootstrap(sums: Array, counts: Array, resamples: int, seed: int) -> Array:
    """Means (resamples, M) over users drawn with replacement."""
    both = np.concatenate([sums, counts], axis=1)  # (U, 2 M)
    drawn = np.concatenate([weights @ both for weights in _draws(len(sums), resamples, seed)])
    total, number = np.split(drawn, 2, axis=1)
    with np.errstate(invalid="ignore"):  # no user with a value was drawn
        return np.asarray(total / number)


def _sign_flip(sums: Array, resamples: int, seed: int) -> float:
    """Monte Carlo p-value of the sum under random signs; never below 1 / (resamples + 1)."""
    users, rng = len(sums), np.random.default_rng(seed)

    def heads(rows: int) -> Array:
        flips = np.frombuffer(rng.bytes((rows * users + 7) // 8), dtype=np.uint8)
        return np.unpackbits(flips, count=rows * users).reshape(rows, users).astype(np.float64) @ sums

    total = sums.sum()
    flipped = 2 * np.concatenate([heads(rows) for rows in _blocks(users, resamples)]) - total
    tolerance = 1e-12 * np.abs(sums).sum()  # sums in another order are the same sums
    extreme = (np.abs(flipped) >= abs(total) - tolerance).sum()
    return float((1 + extreme) / (1 + resamples))


def _draws(users: int, resamples: int, seed: int) -> Iterator[Array]:
    """Block by block (rows, users): how often each user is in each of `resamples` draws with replacement."""
    rng = np.random.default_rng(seed)
    for rows in _blocks(users, resamples):
        picked = rng.integers(0, users, (rows, users), dtype=np.int64) + np.arange(rows)[:, None] * users
        yield np.bincount(picked.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)


def _blocks(users: int, resamples: int) -> Iterator[int]:
    """Rows of each block, `resamples` in all."""
    rows = max(1, BLOCK // max(1, users))
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)


def _percentiles(means: Array) -> Array:
    tail = (1 - LEVEL) / 2
    known = np.where(np.isnan(means).all(axis=0), 0.0, means)
    return np.nanquantile(known, [tail, 1 - tail], axis=0)
