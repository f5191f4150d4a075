"""What `recloom text-metrics` tells: a table, and a JSON file with how each number came about."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recloom.io import sha256
from recloom.metrics import Texts

from .measure import TextResults, TextValue

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


def results(
    file: Path, texts: Texts, found: Mapping[str, TextValue], *, resamples: int, seed: int
) -> TextResults:
    """The values with what they were measured on."""
    references = texts.reference
    return TextResults(
        file=file.name,
        sha256=sha256(file),
        texts=len(texts),
        empty=sum(not text.strip() for text in texts.text),
        without_reference=None if references is None else sum(not one.strip() for one in references),
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

    told = [f"{found.texts:,} texts", f"{found.empty:,} empty"]
    if found.without_reference is not None:
        told.append(f"{found.without_reference:,} without a reference")
    table = Table(box=None, pad_edge=False)
    for column, right in (("metric", 0), ("value", 1), ("95 % interval", 0), ("over", 0), ("undefined", 1)):
        table.add_column(column, justify="right" if right else "left")
    for name, metric in found.metrics.items():
        over, undefined = f"{metric.n:,} {metric.of}", f"{metric.undefined:,}"
        table.add_row(*map(plain, (name, *_numbers(metric, percent), over, undefined)))
    console = Console(highlight=False)
    console.print(plain(f"{found.file}: {', '.join(told)}", 200))
    console.print(table)
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
    """Write the results as JSON, whole or not at all."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(json.dumps(found.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
