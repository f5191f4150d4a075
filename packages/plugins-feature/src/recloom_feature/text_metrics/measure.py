"""Text metrics over texts: a value for each, and how sure it is.

The texts are the unit of chance: tokens or attributes of one text are drawn together (`significance.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from recloom.errors import RecloomError
from recloom.evaluation import LEVEL, intervals
from recloom.metrics import GIVEN_BY, Measured, TextMetric, Texts, parse_text_metric
from recloom.schemas import Record


class TextValue(Record):
    """One metric over all texts; null where it is undefined."""

    value: float | None
    low: float | None
    """The 95 % bootstrap interval over texts; null for a metric that has one value over all texts only."""
    high: float | None
    n: int
    """How many values the mean is over; for a metric without them, how many texts."""
    of: str
    """What these values stand for, such as `texts` or `tokens`."""
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
    """Texts without a character that is seen; they are measured as they are, which most metrics call 0."""
    without_reference: int | None
    """Texts that metrics of references leave out; null where no references were given."""
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
    return {
        name: _value(metric, metric.function(texts, n), len(texts), resamples, seed)
        for name, (metric, n) in asked.items()
    }


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


def _value(metric: TextMetric, found: Measured, size: int, resamples: int, seed: int) -> TextValue:
    unit = "share" if metric.share else "number"
    known: dict[str, Any] = {"of": metric.of, "unit": unit, "higher_is_better": metric.higher_is_better,
             "method": dict(found.method)}  # fmt: skip
    if isinstance(found.values, float):
        out, used = found.left_out, size - found.left_out
        return TextValue(value=_real(found.values), low=None, high=None, n=used, undefined=out, **known)
    rows = np.arange(size) if found.rows is None else found.rows
    if not len(found.values):
        return TextValue(value=None, low=None, high=None, n=0, undefined=size, **known)
    over = intervals({metric.name: found.values}, rows, resamples=resamples, seed=seed)[metric.name]
    mean, low, high = (np.exp(v) if metric.exponent else v for v in (over.mean, over.low, over.high))
    defined = len(np.unique(rows[~np.isnan(found.values)]))
    return TextValue(
        value=_real(mean), low=_real(low), high=_real(high), n=over.n, undefined=size - defined, **known
    )


def _real(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
