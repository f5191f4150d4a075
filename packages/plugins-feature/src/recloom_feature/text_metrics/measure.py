"""Values of text metrics with bootstrap intervals, as a table and as a JSON file.

Users are resampled where the texts say whom they are for, else texts: what belongs to one is drawn together.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recloom.errors import RecloomError
from recloom.evaluation import LEVEL, intervals
from recloom.io import sha256, version, write_text
from recloom.metrics import GIVEN_BY, Measured, TextMetric, Texts, parse_text_metric
from recloom.schemas import Record

RECORDED = (
    "recloom",
    "recloom-feature",
    "numpy",
    "polars",
    "sacrebleu",
    "rouge-score",
    "nltk",
    "transformers",
    "torch",
)
"""Distributions whose versions are written beside the values."""


class TextValue(Record):
    """One metric over all texts; null where it is undefined."""

    value: float | None
    low: float | None
    """The 95 % bootstrap interval over users or texts; null for a metric that has one value over all texts only."""
    high: float | None
    n: int
    """How many values the mean is over; for a metric without them, how many texts."""
    of: str
    """The unit of these values, such as `texts` or `tokens`."""
    undefined: int
    """Texts without a value, which the mean leaves out."""
    unit: str
    """`share` from 0 to 1, or `number`."""
    higher_is_better: bool
    method: dict[str, str]


class TextResults(Record):
    """What `recloom text-metrics --out` writes."""

    format: str = "recloom-text-results-1"
    file: str
    sha256: str
    texts: int
    empty: int
    """Texts of white space alone; they are measured as they are, which most metrics call 0."""
    without_reference: int | None
    """Texts that metrics of references leave out; null where no references were given."""
    users: int | None = None
    """The users over whom intervals are; null where intervals are over texts. A text of no user is one of its own."""
    metrics: dict[str, TextValue]
    level: float = LEVEL
    resamples: int
    seed: int
    versions: dict[str, str]


def measure(
    names: Sequence[str],
    metrics: Mapping[str, Any],
    texts: Texts,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, TextValue]:
    """Each metric asked for, such as ["bleu@4", "rouge_l"], over the texts.

    metrics: by name, as `plugins.collect("register_metrics")` returns them. Raises RecloomError for a name that
    does not fit, or a column that a metric needs and the texts do not have.
    """
    asked = {name: parse_text_metric(name, metrics) for name in names}
    if not len(texts):
        raise RecloomError("no texts to measure: expected at least one row, found none")
    for name, (metric, _) in asked.items():
        _check(name, metric, texts)
    drawn = clusters(texts)
    return {
        name: _value(metric, metric.function(texts, n), drawn, resamples, seed)
        for name, (metric, n) in asked.items()
    }


def clusters(texts: Texts) -> NDArray[np.int64]:
    """(N,) which texts are drawn together: those of one user; without users each is alone."""
    alone = np.arange(len(texts))
    if texts.user is None:
        return alone
    users = np.asarray(texts.user)
    number = np.unique(users, return_inverse=True)[1]
    return np.where(users == "", len(texts) + alone, number)


def _check(name: str, metric: TextMetric, texts: Texts) -> None:
    missing = [need for need in metric.needs if getattr(texts, need) is None]
    if missing:
        wanted = " and ".join(GIVEN_BY[need] for need in missing)
        raise RecloomError(
            f"text metric {name!r} needs {' and '.join(missing)}, found none; give {wanted}, or leave it out."
        )
    if "reference" in metric.needs and not any(map(str.strip, texts.reference or ())):
        raise RecloomError(
            f"text metric {name!r}: expected references, and all {len(texts):,} are empty; name another column."
        )


def _value(
    metric: TextMetric, found: Measured, drawn: NDArray[np.int64], resamples: int, seed: int
) -> TextValue:
    size = len(drawn)
    unit = "share" if metric.share else "number"
    known: dict[str, Any] = {"of": metric.of, "unit": unit, "higher_is_better": metric.higher_is_better,
             "method": dict(found.method)}  # fmt: skip
    if isinstance(found.values, float):
        out, used = found.left_out, size - found.left_out
        return TextValue(value=_real(found.values), low=None, high=None, n=used, undefined=out, **known)
    rows = np.arange(size) if found.rows is None else found.rows
    if not len(found.values):
        return TextValue(value=None, low=None, high=None, n=0, undefined=size, **known)
    over = intervals({metric.name: found.values}, drawn[rows], resamples=resamples, seed=seed)[metric.name]
    mean, low, high = (np.exp(v) if metric.exponent else v for v in (over.mean, over.low, over.high))
    defined = len(np.unique(rows[~np.isnan(found.values)]))
    return TextValue(
        value=_real(mean), low=_real(low), high=_real(high), n=over.n, undefined=size - defined, **known
    )


def _real(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def results(
    file: Path, texts: Texts, found: Mapping[str, TextValue], *, resamples: int, seed: int
) -> TextResults:
    """The values, with the file that they were measured on and the versions of the libraries."""
    references = texts.reference
    return TextResults(
        file=file.name,
        sha256=sha256(file),
        texts=len(texts),
        empty=sum(not text.strip() for text in texts.text),
        without_reference=None if references is None else sum(not one.strip() for one in references),
        users=None if texts.user is None else len(np.unique(clusters(texts))),
        metrics=dict(found),
        resamples=resamples,
        seed=seed,
        versions=_versions(),
    )


def show(found: TextResults, percent: bool = False) -> None:
    """Print counts, then metrics with their intervals; shares times 100 where asked for."""
    from recloom.terminal import plain
    from rich.console import Console
    from rich.table import Table

    counts = [f"{found.texts:,} texts", f"{found.empty:,} empty"]
    if found.without_reference is not None:
        counts.append(f"{found.without_reference:,} without a reference")
    table = Table(box=None, pad_edge=False)
    for column, right in (("metric", 0), ("value", 1), ("95 % interval", 0), ("over", 0), ("undefined", 1)):
        table.add_column(column, justify="right" if right else "left")
    for name, metric in found.metrics.items():
        over, undefined = f"{metric.n:,} {metric.of}", f"{metric.undefined:,}"
        table.add_row(*map(plain, (name, *_numbers(metric, percent), over, undefined)))
    console = Console(highlight=False)
    console.print(plain(f"{found.file}: {', '.join(counts)}", 200))
    console.print(table)
    over = (
        "texts; --users COLUMN names whom they are for" if found.users is None else f"{found.users:,} users"
    )
    console.print(f"95 % intervals by bootstrap over {over}")
    console.print(
        "shares are in percent" if percent else "shares are from 0 to 1; --percent shows them times 100"
    )


def _numbers(metric: TextValue, percent: bool) -> tuple[str, str]:
    """Value and interval as they are shown."""
    times, digits = (100, 2) if percent and metric.unit == "share" else (1, 4)
    if metric.value is None:
        return "undefined", ""
    sure = metric.low is not None and metric.high is not None
    shown = [
        f"{times * number:.{digits}f}"
        for number in (metric.value, metric.low, metric.high)
        if number is not None
    ]
    return shown[0], f"{shown[1]} to {shown[2]}" if sure else ""


def write(out: Path, found: TextResults) -> None:
    """Write the results as JSON; atomic."""
    write_text(out, json.dumps(found.model_dump(mode="json"), indent=2) + "\n")


def _versions() -> dict[str, str]:
    known = {name: number for name in RECORDED if (number := version(name))}
    return {"python": platform.python_version()} | known
