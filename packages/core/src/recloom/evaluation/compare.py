"""`recloom compare`: tested runs of one protocol side by side, with paired differences to the first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command import command
from ..errors import RecloomError
from ..metrics.segments import LEGEND
from ..terminal import visible

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from ..runs.run import Run
    from .results import MetricValue, Results
    from .significance import Difference

WIDTH = 120
"""Columns of a comparison as text."""


@dataclass(frozen=True)
class Cell:
    """One metric of one run, and how it differs from the reference run (None for that run itself)."""

    run: str
    model: str
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    higher_is_better: bool
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    """By sign flips over the users common to both runs."""
    p_holm: float | None = None
    """The same, adjusted for every test of this comparison."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs of one protocol; `cells` by run in the order given, then by metric. It prints as its table."""

    protocol: dict[str, Any]
    reference: str
    cells: list[Cell]
    interrupted: list[str] = field(default_factory=list)
    """Runs whose fit did not come to its end; an asterisk marks them in the table."""
    comparisons: int = 0
    """Tests of this comparison: over so many `p_holm` is adjusted."""

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=WIDTH, color_system=None)
        with console.capture() as captured:
            console.print(self.table())
        lines = [line.rstrip() for line in captured.get().splitlines()]
        return "\n".join([*lines, *self.notes()])

    def to_frame(self) -> pl.DataFrame:
        """One row for each run and metric."""
        import polars as pl

        return pl.DataFrame([asdict(cell) for cell in self.cells], infer_schema_length=None)

    def to_json(self) -> str:
        """The protocol, the reference run and all cells."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def table(self) -> Table:
        """For the terminal, readable in 80 columns: metric by metric a row for each run, the best in bold."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in ("metric", "run"):
            table.add_column(column, overflow="fold")
        numbers = ("value", "95 % interval", *(("difference", "p (Holm)") if self.comparisons else ()))
        for column in numbers:
            table.add_column(column, justify="right", no_wrap=True)
        labels = self._labels()
        for metric in dict.fromkeys(cell.metric for cell in self.cells):
            best = _best(self.cells, metric)
            for place, cell in enumerate(c for c in self.cells if c.metric == metric):
                shown = _shown(cell, cell.mean == best)[: len(numbers)]
                table.add_row(metric if place == 0 else "", labels[cell.run], *shown)
            table.add_section()
        return table

    def _labels(self) -> dict[str, str]:
        """What a run is called in the table: its model, or its folder where two runs have one model; then marks."""
        from rich.markup import escape

        models = {cell.run: cell.model for cell in self.cells}
        alone = len(set(models.values())) == len(models)
        marks = {run: "*" if run in self.interrupted else "" for run in models}
        return {run: escape((model if alone else run) + marks[run]) for run, model in models.items()}

    def notes(self) -> list[str]:
        """Lines to print below the table: what the numbers hold for, and how they were compared."""
        protocol = ", ".join(
            f"{key} {self.protocol[key]}"
            for key in ("dataset", "part", "candidates", "seen", "users", "added")
            if self.protocol.get(key)
        )
        how = ["Intervals over users. Differences are tested for metrics with a value per user only."]
        if self.comparisons:
            how = [
                f"Intervals over users; difference to {self.reference}, paired by user.",
                f"p is corrected by Holm's method over the {self.comparisons} comparisons of this table.",
            ]
        parts = [LEGEND] if any("/" in cell.metric for cell in self.cells) else []
        broken = [
            f"* {run}: training was interrupted, this is the state it had reached."
            for run in self.interrupted
        ]
        return [visible(line) for line in (protocol, *how, *parts, *broken)]


def compare(
    runs: Sequence[str | Path | Run],
    metrics: Sequence[str] | None = None,
    *,
    reference: str | Path | Run | None = None,
) -> Comparison:
    """Compare tested runs, by default in every metric that all of them have, each with the reference run.

    Runs are given as `Run` or as their folders; reference is one of them, by default the first. Raises
    RecloomError when there are fewer than two runs, when their protocols differ (each differing field is
    named with its values), or for an unknown metric.
    """
    from ..run_folder import CHECKPOINTS, finished
    from .results import read_results

    names = [_folder(run) for run in runs]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise RecloomError(
            f"compare: expected two or more different runs, found {', '.join(names) or 'none'}."
        )
    base = names[0] if reference is None else _folder(reference)
    if base not in names:
        raise RecloomError(f"compare: expected the reference to be one of {', '.join(names)}; found {base}.")
    results = {name: read_results(name) for name in names}
    _check_protocols(results)
    chosen = _choose(results, metrics)
    tests = _tests(names, base, chosen)
    cells = [
        _cell(name, results[name], metric, tests.get((name, metric))) for name in names for metric in chosen
    ]
    interrupted = [name for name in names if (Path(name) / CHECKPOINTS).is_dir() and not finished(Path(name))]
    return Comparison(results[base].protocol.model_dump(mode="json"), base, cells, interrupted, len(tests))


@command("compare")
def compare_command(runs: list[str], *, metrics: str | None = None, out: Path | None = None) -> None:
    """Show tested runs side by side, with intervals and the difference to the first.

    Args:
        runs: folders that hold a metrics.json; the first is what the others are compared with.
        metrics: names separated by commas, such as ndcg@10,hit@10; by default all that the runs share.
        out: also write the comparison to this JSON file.
    """
    from rich.console import Console

    found = compare(runs, metrics.split(",") if metrics else None)
    Console(highlight=False).print(found.table())
    print("\n".join(found.notes()))
    if out is not None:
        out.write_text(found.to_json(), encoding="utf-8")


def _folder(run: str | Path | Run) -> str:
    return str(getattr(run, "folder", run))


def _check_protocols(results: dict[str, Results]) -> None:
    (first, one), *others = (
        (name, _flat(run.protocol.model_dump(mode="json"))) for name, run in results.items()
    )
    faults = [
        f"{field}: {one.get(field)!r} in {first}, {other.get(field)!r} in {name}"
        for name, other in others
        for field in dict.fromkeys([*one, *other])
        if one.get(field) != other.get(field)
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


def _choose(results: dict[str, Results], metrics: Sequence[str] | None) -> list[str]:
    shared = [
        m for m in next(iter(results.values())).metrics if all(m in run.metrics for run in results.values())
    ]
    chosen = [name.strip() for name in metrics] if metrics else _worth_showing(results, shared)
    if missing := [name for name in chosen if name not in shared] or ([] if chosen else ["any"]):
        raise RecloomError(
            f"compare: expected metrics that every run has ({', '.join(shared) or 'there are none'}), "
            f"found {', '.join(missing)}; test the runs again with the same metrics."
        )
    return chosen


def _worth_showing(results: dict[str, Results], shared: list[str]) -> list[str]:
    """Metrics of all items, and of the segments that say more, metric by metric."""
    from .results import told_apart

    apart = {segment for run in results.values() for segment in told_apart(run)}
    return [name for name in shared if "/" not in name or name.partition("/")[2] in apart]


def _tests(
    names: list[str], base: str, metrics: list[str]
) -> dict[tuple[str, str], tuple[Difference, float]]:
    """(run, metric) to the paired difference and its adjusted p-value, for metrics with values per user."""
    import polars as pl

    from .results import KEYS, read_per_user
    from .significance import holm, paired_difference

    frames = {name: read_per_user(name).with_columns(pl.col("user_id").cast(pl.String)) for name in names}
    found: dict[tuple[str, str], Difference] = {}
    for name in names:
        if name == base:
            continue
        both = frames[name].join(frames[base], on=list(KEYS), suffix="/reference", maintain_order="left")
        if both.is_empty():
            raise RecloomError(
                f"compare: expected users common to {base} and {name}, found none; were ids renamed?"
            )
        for metric in metrics:
            if metric in frames[name].columns and metric in frames[base].columns:
                pairs = both.select("user_id", metric, theirs=f"{metric}/reference").drop_nans()
                if pairs["user_id"].n_unique() > 1:
                    columns = (pairs[column].to_numpy() for column in (metric, "theirs", "user_id"))
                    found[name, metric] = paired_difference(*columns)
    adjusted = holm([test.p_value for test in found.values()])
    return {key: (test, p) for (key, test), p in zip(found.items(), adjusted, strict=True)}


def _cell(name: str, results: Results, metric: str, test: tuple[Difference, float] | None) -> Cell:
    value: MetricValue = results.metrics[metric]
    whole = (value.mean, value.low, value.high, value.n, value.higher_is_better)
    if test is None:
        return Cell(name, results.model, metric, *whole)
    found, p_holm = test
    return Cell(name, results.model, metric, *whole, found.mean, found.low, found.high, found.p_value, p_holm)


def _best(cells: list[Cell], metric: str) -> float | None:
    values = [cell.mean for cell in cells if cell.metric == metric and cell.mean is not None]
    higher = all(cell.higher_is_better for cell in cells if cell.metric == metric)
    return (max if higher else min)(values, default=None)


def _shown(cell: Cell, best: bool) -> tuple[str, str, str, str]:
    """Value, interval, difference and p-value as text; empty where there is none."""
    if cell.mean is None:
        return "undefined", "", "", ""
    value = f"[bold]{cell.mean:.4f}[/bold]" if best else f"{cell.mean:.4f}"
    spread = "" if cell.low is None else f"{cell.low:.4f} to {cell.high:.4f}"
    if cell.difference is None or cell.p_holm is None:
        return value, spread, "", ""
    return value, spread, f"{cell.difference:+.4f}", f"{cell.p_holm:.2g}"
