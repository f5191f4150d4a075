"""Test results of a run: write, read and show `metrics.json` and `per_user_test.parquet`."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from ..errors import RecloomError
from ..io import RECORDED, version, whole_file, write_text
from ..llm import Usage
from ..metrics.segments import FLOOR, LEGEND, OF_REQUESTS, USERS_LEGEND
from ..run_folder import refuse_task
from ..schemas import EqualTimes, Protocol, Record
from .significance import LEVEL, bounds_of_draws, intervals

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

COUNTED = ("equal_times.rows", "equal_times.held_out")
"""Shares that follow from the data and the split; tests of before have none."""
METRICS_FILE = "metrics.json"
FEW = 100
"""Requests below which a table says that they are few."""
INTERVALS = "95 % intervals by bootstrap over users"
KEYS = ("user_id", "request")
"""The columns of the per-user table that are not metrics; `request` counts a user's rows from 0."""


class MetricValue(Record):
    """One metric over the whole test; null where it is undefined."""

    mean: float | None
    low: float | None
    """The 95 % bootstrap interval over users; null for metrics of all lists together, such as coverage."""
    high: float | None
    n: int
    """Requests with a value."""
    undefined: int
    """Requests without one, which the mean leaves out."""
    higher_is_better: bool = True

    def __str__(self) -> str:
        """`0.0709 [0.0580, 0.0841]`."""
        if self.mean is None:
            return "undefined"
        return f"{self.mean:.4f}" + ("" if self.low is None else f" [{self.low:.4f}, {self.high:.4f}]")


class Results(Record):
    """`metrics.json`."""

    format: Literal["recloom-results-1"] = "recloom-results-1"
    model: str
    seed: int | None
    protocol: Protocol
    metrics: dict[str, MetricValue]
    level: float = LEVEL
    resamples: int
    versions: dict[str, str]
    usage: Usage | None = None
    """What the test asked of language models, where the recommender asks any."""
    floor: dict[str, float | None] = Field(default_factory=dict)
    """The means of `Popularity`, training counts, on the same requests; of metrics that read an order."""
    without_history: int | None = None
    """Requests without anything to look back on; None in results of before these were counted."""
    not_trained_on: list[str] = Field(default_factory=list)
    """Segments of items that the recommender cannot tell apart, since it knows items by who met them: `cold`."""


def write_results(
    run_dir: str | Path,
    *,
    model: str,
    protocol: Protocol,
    values: Mapping[str, float],
    per_user: Mapping[str, NDArray[np.float64]],
    users: Sequence[str] | NDArray[np.integer[Any]],
    of_draws: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] | None = None,
    seed: int | None = None,
    lower_is_better: Iterable[str] = (),
    resamples: int = 1000,
    usage: Usage | None = None,
    floor: Mapping[str, float] | None = None,
    without_history: int | None = None,
    not_trained_on: Sequence[str] = (),
) -> Results:
    """Write both files into `run_dir`, each in one step, and return what `metrics.json` says.

    values, per_user, of_draws and lower_is_better are what a `MetricAccumulator` gives, floor another one; users are
    the raw ids of its requests, in order; the rest is as in `Results`. Raises RecloomError when a column does not have
    one value for each request.
    """
    run = Path(run_dir)
    table = _per_user_frame(users, per_user)
    sure = intervals(dict(per_user), table["user_id"].to_numpy(), resamples=resamples)
    bounds = {name: (spread.low, spread.high) for name, spread in sure.items()}
    bounds |= bounds_of_draws(of_draws or {}, table["user_id"].n_unique(), resamples=resamples)
    worse = set(lower_is_better)
    metrics = {}
    for name, value in values.items():
        spread = sure.get(name)
        low, high = bounds.get(name, (math.nan, math.nan))
        metrics[name] = MetricValue(
            mean=_finite(value),
            low=_finite(low),
            high=_finite(high),
            n=spread.n if spread else _measured(name, len(table), without_history or 0),
            undefined=spread.undefined if spread else 0,
            higher_is_better=name not in worse,
        )
    results = Results(
        model=model,
        seed=seed,
        protocol=protocol,
        metrics=metrics,
        resamples=resamples,
        versions=_versions(),
        usage=usage,
        floor={name: _finite(value) for name, value in (floor or {}).items()},
        without_history=without_history,
        not_trained_on=list(not_trained_on),
    )
    run.mkdir(parents=True, exist_ok=True)
    with whole_file(run / _per_user_file(protocol)) as partial:
        table.write_parquet(partial)
    write_text(run / METRICS_FILE, json.dumps(results.model_dump(mode="json"), indent=2) + "\n")
    return results


def _measured(metric: str, total: int, new: int) -> int:
    """The requests that a metric over all of them, or over all that are known or new, is of."""
    known, of_new = OF_REQUESTS
    return {known: total - new, of_new: new}.get(metric.partition("/")[2], total)


def read_results(run_dir: str | Path) -> Results:
    """Read a run's `metrics.json`. Raises RecloomError when it is missing or does not say what it should."""
    refuse_task(Path(run_dir))
    path = Path(run_dir) / METRICS_FILE
    if not path.is_file():
        raise RecloomError(
            f"{path}: expected the results of a test, found no such file; test the run {run_dir} first."
        )
    try:
        return Results.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecloomError(
            f"{path}: {key}: {first['msg']} ({error.error_count()} in all); test the run again to rewrite it."
        ) from error


def read_per_user(run_dir: str | Path) -> pl.DataFrame:
    """Read the per-user table of a run: user_id, request, and a float column for each metric per user."""
    import polars as pl

    path = Path(run_dir) / _per_user_file(read_results(run_dir).protocol)
    if not path.is_file():
        raise RecloomError(f"{path}: expected the values per user, found no such file; test the run again.")
    return pl.read_parquet(path, glob=False)


def check_protocols(results: Mapping[str, Results]) -> None:
    """Raise RecloomError where runs were not measured alike; each differing field is named with its values."""
    (first, one), *others = (
        (name, _flat(run.protocol.model_dump(mode="json"))) for name, run in results.items()
    )
    faults = [
        f"{field}: {one.get(field)!r} in {first}, {other.get(field)!r} in {name}"
        for name, other in others
        for field in dict.fromkeys([*one, *other])
        if one.get(field) != other.get(field)
        and not (field in COUNTED and None in (one[field], other[field]))
    ]
    if faults:
        advice = "Test the runs again under one protocol."
        if len({run.protocol.added for run in results.values()}) > 1:
            advice = "A run with added items ranks more items; compare the run that they were added to."
        raise RecloomError(
            "compare: expected runs of one protocol, found differences; numbers of different protocols "
            f"are different metrics. {advice}\n  " + "\n  ".join(faults)
        )


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def requests(results: Results) -> dict[str, int]:
    """Segment to the number of requests with a held-out item in it; empty where no metric is kept by segment."""
    kept = ((name.partition("/")[2], metric.n) for name, metric in results.metrics.items() if "/" in name)
    return dict(kept)


def told_apart(results: Results) -> list[str]:
    """The segments worth a column: those with a request, and warm items only beside cold ones."""
    counts = requests(results)
    return [name for name, n in counts.items() if n and not (name == "warm" and not counts.get("cold"))]


def remarks(results: Results) -> list[str]:
    """What is to be known before a number is read: requests without history, and few requests."""
    total = results.protocol.users
    found = []
    if results.without_history:
        found.append(
            f"{results.without_history:,} of {total:,} requests have no history: there is nothing to tell them apart by"
        )
    elif results.without_history == 0:
        found.append(f"all {total:,} requests have a history")
    counts = {"all": total, **requests(results)}
    few = [f"{name} ({counts[name]:,})" for name in ("all", *told_apart(results)) if counts[name] < FEW]
    if few:
        found.append(f"few requests, below {FEW}, tell few models apart: {', '.join(few)}")
    return found


def show(results: Results) -> None:
    """Print the metrics and their intervals, in all and by segment, and the protocol they hold for."""
    from rich.console import Console

    from ..terminal import plain

    apart = told_apart(results)
    of_requests = [name for name in apart if name in OF_REQUESTS]
    of_items = [name for name in apart if name not in OF_REQUESTS]
    console = Console(highlight=False)
    console.print(plain(f"{results.model}, {results.protocol.part} part of {results.protocol.dataset}", 200))
    blocks = [["", *of_requests], of_items] if of_requests and of_items else [["", *apart]]
    for block in blocks:  # side by side they are wider than a terminal
        console.print(_table(results, block))
    lines = [LEGEND if of_items else "", USERS_LEGEND if of_requests else "", _dash(results, of_items)]
    lines += [FLOOR if _floor(results) else "", _absent(requests(results)), *remarks(results)]
    for line in filter(None, (*lines, INTERVALS, describe(results.protocol))):
        console.print(plain(line, 400))
    if results.usage is not None:
        print(results.usage)


def _table(results: Results, segments: Sequence[str]) -> Table:
    """A row for each metric and, under it, for the floor; a column for each segment, "" being all requests."""
    from rich.table import Table

    from ..terminal import plain

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("metric", overflow="fold")
    for segment in segments:
        table.add_column(segment or "all", justify="right", no_wrap=True)
    kept = {segment: f"/{segment}" if segment else "" for segment in segments}
    names = [name for name in results.metrics if "/" not in name]
    names = [name for name in names if any(name + suffix in results.metrics for suffix in kept.values())]
    floor = _floor(results)
    for name in names:
        cells = [
            "–" if segment in results.not_trained_on else _cell(results.metrics.get(name + suffix))
            for segment, suffix in kept.items()
        ]
        table.add_row(plain(name), *cells)
        if name in floor:
            under = (
                "–" if segment == "cold" else _number(floor.get(name + suffix))
                for segment, suffix in kept.items()
            )
            table.add_row("  Popularity", *under)
    ranked = next((name.partition("/")[0] for name in results.metrics if "/" in name), None)
    if ranked:
        table.add_row(
            "requests",
            *(f"{results.metrics[ranked + suffix].n:,}" if ranked + suffix in results.metrics else ""
              for suffix in kept.values()),
        )  # fmt: skip
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _floor(results: Results) -> dict[str, float | None]:
    """The floor, where the model is another one."""
    return {} if results.model == "Popularity" else results.floor


def _dash(results: Results, segments: Sequence[str]) -> str:
    dashes = [name for name in results.not_trained_on if name in segments]
    return (
        f"–: {results.model} was not trained on {' and '.join(dashes)} items and cannot score them"
        if dashes
        else ""
    )


def _cell(metric: MetricValue | None) -> str:
    """The value above its interval."""
    if metric is None:
        return ""
    value = "undefined" if metric.mean is None else f"{metric.mean:.4f}"
    return value + ("" if metric.low is None else f"\n{metric.low:.4f}–{metric.high:.4f}")


def _absent(counts: Mapping[str, int]) -> str:
    """Which segments no request asks for."""
    none = " and ".join(name for name, n in counts.items() if not n and name not in OF_REQUESTS)
    return none and f"no {none} item is held out" + (", so warm is all" if none == "cold" else "")


def describe(protocol: Protocol) -> str:
    """One line that says what a number on this protocol means."""
    added = f" ({protocol.added:,} of them added after training)" if protocol.added else ""
    return (
        f"{protocol.users:,} users{_drawn(protocol)}, {protocol.num_items:,} items{added}, "
        f"split {protocol.split}, candidates {protocol.candidates}, seen items {protocol.seen}, "
        f"ties {protocol.ties}"
        + (", requests without history left out" if protocol.new_users == "dropped" else "")
        + _equal_times(protocol.equal_times)
    )


def _drawn(protocol: Protocol) -> str:
    return f" (drawn from {protocol.drawn_from:,})" if protocol.drawn_from else ""


def _equal_times(times: EqualTimes) -> str:
    """How much of a number rests on rows whose order the times do not tell."""
    if times.rows is None or times.held_out is None or not times.rows:
        return ""
    return (
        f", equal times of a user in the order of {'the file' if times.rule == 'file' else 'a hash'} "
        f"({times.rows:.1%} of the rows, {times.held_out:.1%} of the held-out ones)"
    )


def _per_user_file(protocol: Protocol) -> str:
    return f"per_user_{protocol.part}.parquet"


def _per_user_frame(
    users: Sequence[str] | NDArray[np.integer[Any]], columns: Mapping[str, NDArray[np.float64]]
) -> pl.DataFrame:
    import polars as pl

    if not len(users):
        raise RecloomError(
            "write_results: expected at least one request, found none; is the test part empty?"
        )
    for name, column in columns.items():
        if len(column) != len(users):
            raise RecloomError(
                f"write_results: {name}: expected one value for each of {len(users)} requests, found "
                f"{len(column)}; give the users of the same meter."
            )
    frame = pl.DataFrame({"user_id": users, **columns})
    nth = pl.int_range(pl.len()).over("user_id").cast(pl.Int32).alias("request")
    return frame.select("user_id", nth, *columns)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _versions() -> dict[str, str]:
    known = {name: number for name in RECORDED if (number := version(name))}
    return {"python": platform.python_version()} | known
