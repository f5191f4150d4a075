"""Intervals of means and paired differences: of runs over users, of methods over users and seeds.

Two trained runs tell what these two would give for other users; what the methods would give, trained anew, takes
several seeds of each (Bouthillier et al. 2021). Between runs, a user's requests are drawn, or change sign, together
(the bootstrap by cluster, Davison and Hinkley 1997), in blocks, so memory does not grow with the number of draws.
Between methods, users and seeds are two crossed random effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import RecloomError

Array = NDArray[np.float64]
ROUNDING = 1e-12
"""A difference below this share of the values is no difference but the rounding of sums."""
LEVEL = 0.95
ENOUGH = 10
"""So many flips as extreme as the data tell a p-value well enough."""
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
    """Of two runs by sign flips: how often a difference as large appears when each user's sign is a coin's. Of two
    methods by t."""
    p_bootstrap: float | None = None
    """Of two runs, from the share of resamples on the other side of zero."""


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
    tests: int = 1,
) -> Difference:
    """Compare two runs on the same requests, in the same order; a request undefined in either is left out.

    ours, theirs, users: (R,). `tests` is the number of p-values that will be adjusted together: where few of the
    sign flips are as extreme, up to 100 times as many are drawn, so that an adjusted p can be small.

    Raises RecloomError when the two differ in length or fewer than two users remain.
    """
    sums, counts = _pairs(ours[None], theirs[None], users)
    sums = sums[:, :1] - sums[:, 1:]
    counts = counts[:, None]
    means = _bootstrap(sums, counts, resamples, seed)
    low, high = _percentiles(means)
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    return Difference(
        mean=float(sums.sum() / counts.sum()),
        low=float(low[0]),
        high=float(high[0]),
        n=int(counts.sum()),
        p_value=_sign_flip(sums[:, 0], resamples, max(resamples, 100 * tests), seed),
        p_bootstrap=float(min(1.0, 2 * (1 + beyond) / (1 + resamples))),
    )


def seeds_difference(ours: Array, theirs: Array, users: NDArray[np.generic] | None = None) -> Difference:
    """Compare two methods, each by several trained runs, on the same requests in the same order.

    ours (A, R), theirs (B, R): a row for each run; one row only for a method that leaves nothing to chance. A request
    undefined in any run is left out. users (R,): who made each request.

    The variance of the difference is the sum of that of the seeds of either method (a run's mean over these users
    scatters by it), and of what the users' mean differences scatter beyond the chance of single runs; t has the
    degrees of freedom of Welch and Satterthwaite. See `docs/evaluation.md` for its measured error rates.

    Raises RecloomError when the two differ in requests or fewer than two users remain.
    """
    sums, counts = _pairs(ours, theirs, users)
    a, b = (_side(part, counts) for part in np.split(sums, [len(ours)], axis=1))
    mean = a.mean - b.mean
    if abs(mean) <= ROUNDING * (abs(a.mean) + abs(b.mean)):
        mean = 0.0
    alone = _of_users(a.sums - b.sums, counts) - a.noise / a.runs - b.noise / b.runs
    low, high, p = _student(
        mean,
        (a.seeds / a.runs, a.runs - 1),
        (b.seeds / b.runs, b.runs - 1),
        (max(0.0, alone), len(counts) - 1),
    )
    return Difference(mean, low, high, int(counts.sum()), p)


def seeds_interval(values: Array, users: NDArray[np.generic] | None = None) -> Interval:
    """The mean of several trained runs of one method, with a 95 % interval over users and seeds.

    values (S, R): a row for each run; a request undefined in any run is left out. Bounds are NaN for fewer than two
    runs or users; of values that all lie between 0 and 1 they lie there too.
    """
    sums, counts = _shared(values, users)
    undefined = values.shape[1] - int(counts.sum())
    if min(len(counts), len(values)) < 2:
        mean = float(sums.sum() / counts.sum() / len(values)) if len(counts) else float("nan")
        return Interval(mean, float("nan"), float("nan"), int(counts.sum()), undefined)
    side = _side(sums, counts)
    alone = _of_users(side.sums, counts) - side.noise / side.runs
    low, high, _ = _student(
        side.mean, (side.seeds / side.runs, side.runs - 1), (max(0.0, alone), len(counts) - 1)
    )
    known = values[~np.isnan(values)]
    if known.min() >= 0 and known.max() <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(side.mean, low, high, int(counts.sum()), undefined)


@dataclass(frozen=True)
class _Side:
    """The runs of one method on the same users."""

    runs: int
    mean: float
    sums: Array
    """(U,) each user's sum of values, the mean over runs."""
    seeds: float
    """The variance of a run's mean over these users."""
    noise: float
    """The part of that variance that comes from single users, as chance that is independent between them."""


def _side(sums: Array, counts: Array) -> _Side:
    """From (U, S) sums per user and run, and (U,) counts."""
    users, runs = sums.shape
    total, centre = counts.sum(), sums.mean(axis=1)
    means = sums.sum(axis=0) / total  # (S,)
    if runs == 1:
        return _Side(1, float(means[0]), centre, 0.0, 0.0)
    rest = sums - centre[:, None] - counts[:, None] * (means - means.mean())
    noise = (rest**2).sum() / (runs - 1) * users / (users - 1) / total**2
    return _Side(runs, float(means.mean()), centre, float(means.var(ddof=1)), float(noise))


def _of_users(sums: Array, counts: Array) -> float:
    """The variance of a mean over requests, by users: (U,) sums and (U,) counts."""
    users, total = len(counts), counts.sum()
    rest = sums - counts * (sums.sum() / total)
    return float((rest**2).sum() * users / (users - 1) / total**2)


def _student(mean: float, *parts: tuple[float, int]) -> tuple[float, float, float]:
    """Bounds and two-sided p of a mean whose variance is a sum of parts, each with its degrees of freedom."""
    from scipy.special import stdtr, stdtrit

    variance = sum(part for part, _ in parts)
    if not variance:
        return mean, mean, float(mean == 0)
    freedom = variance**2 / sum(part**2 / of for part, of in parts if of)
    error = float(np.sqrt(variance))
    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return mean - reach, mean + reach, float(2 * stdtr(freedom, -abs(mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number, step down (Holm 1979); reject where the result is below the level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = stepped
    return [float(value) for value in adjusted]


def _pairs(ours: Array, theirs: Array, users: NDArray[np.generic] | None) -> tuple[Array, Array]:
    """(U, A + B) sums and (U,) counts of the requests that have a value in all of (A, R) and (B, R)."""
    if ours.shape[1] != theirs.shape[1]:
        raise RecloomError(
            f"paired_difference: expected the same requests twice, found {ours.shape[1]} and {theirs.shape[1]}; "
            "join the two runs by user first."
        )
    sums, counts = _shared(np.concatenate([ours, theirs]), users)
    if len(sums) < 2:
        raise RecloomError(
            f"paired_difference: expected at least two users with a value in both runs, found {len(sums)}; "
            "evaluate more users."
        )
    return sums, counts


def _shared(values: Array, users: NDArray[np.generic] | None) -> tuple[Array, Array]:
    """(U, S) sums and (U,) counts of the requests that have a value in all of (S, R), of users who have any."""
    values = np.where(np.isnan(values).any(axis=0), np.nan, values)
    sums, counts = _per_user(values.T, users)
    kept = counts[:, 0] > 0
    return sums[kept], counts[kept, 0]


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


def _sign_flip(sums: Array, least: int, most: int, seed: int) -> float:
    """Monte Carlo p-value of the sum under random signs; never below 1 / (flips + 1).

    Flips end at `least` where ten were as extreme by then, else when ten are, or at `most` (Besag and Clifford 1991).
    """
    users, rng = len(sums), np.random.default_rng(seed)
    total = sums.sum()
    tolerance = 1e-12 * np.abs(sums).sum()  # sums in another order are the same sums
    extreme = drawn = 0
    for stop in (least, most):
        for rows in _blocks(users, stop - drawn):
            flips = np.frombuffer(rng.bytes((rows * users + 7) // 8), dtype=np.uint8)
            heads = np.unpackbits(flips, count=rows * users).reshape(rows, users).astype(np.float64) @ sums
            extreme += int((np.abs(2 * heads - total) >= abs(total) - tolerance).sum())
            drawn += rows
            if drawn > least and extreme >= ENOUGH:
                break
        if extreme >= ENOUGH:
            break
    return (1 + extreme) / (1 + drawn)


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
