"""`recloom compare`: tested runs of one protocol side by side, with paired differences to the first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command import command
from ..errors import RecloomError
from ..metrics.segments import FLOOR, LEGEND, OF_REQUESTS, USERS_LEGEND
from ..terminal import visible
from .methods import Method, group_seeds

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.table import Table

    from ..runs.run import Run
    from .results import MetricValue, Results

WIDTH = 120
"""Columns of a comparison as text."""
NOT_TRAINED = "–: not trained on these items, which the model cannot score"


@dataclass(frozen=True)
class Cell:
    """One metric of one run, and how it differs from the reference run (None for that run itself)."""

    run: str
    """The folder of the run; of several seeds, of the first."""
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
    """Of the methods: by t over users and seeds, or by sign flips over users where neither side is trained; None
    where a trained side has one run only, since that tells of this run and not of its method."""
    p_holm: float | None = None
    """The same, adjusted for every test of this comparison."""
    seeds: int = 1
    """How many runs the mean is over."""
    trained: bool = True
    """Whether the run can tell items of the metric's segment apart; where not, tables show a dash."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs of one protocol; `cells` by method in the order given, then by metric. It prints as its table."""

    protocol: dict[str, Any]
    reference: str
    cells: list[Cell]
    interrupted: list[str] = field(default_factory=list)
    """Runs whose fit did not come to its end; an asterisk marks them in the table."""
    comparisons: int = 0
    """Tests of this comparison: over so many `p_holm` is adjusted."""
    methods: list[Method] = field(default_factory=list)
    """Who is compared, in the order of `cells`."""
    floor: dict[str, float | None] = field(default_factory=dict)
    """The values of `Popularity` on the same requests, by metric; empty where it is one of the runs."""
    remarks: list[str] = field(default_factory=list)
    """What is to be known of the requests before a number is read."""

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=WIDTH, color_system=None)
        with console.capture() as captured:
            _print_whole(console, self.table())
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
        for column in ("metric", "run"):  # names are copied from here, so no line breaks them
            table.add_column(column, no_wrap=True)
        paired = any(cell.difference is not None for cell in self.cells)
        numbers = ["value", "95 % interval", *(["difference ± 95 %"] if paired else [])]
        numbers += ["p (Holm)"] if self.comparisons else []
        for column in numbers:
            table.add_column(column, justify="right", no_wrap=True)
        labels = self._labels()
        for metric in dict.fromkeys(cell.metric for cell in self.cells):
            best = _best(self.cells, metric)
            for place, cell in enumerate(c for c in self.cells if c.metric == metric):
                shown = _shown(cell, cell.mean == best)[: len(numbers)]
                table.add_row(metric if place == 0 else "", labels[cell.run], *shown)
            if (low := self.floor.get(metric)) is not None and not metric.endswith("/cold"):
                table.add_row("", "Popularity (floor)", f"{low:.4f}", *[""] * (len(numbers) - 1))
            table.add_section()
        return table

    def _labels(self) -> dict[str, str]:
        """What a run is called in the table: its model, or its folder where two runs have one model; then marks."""
        from rich.markup import escape

        models = {cell.run: cell.model for cell in self.cells}
        seeds = {cell.run: f" ({cell.seeds} seeds)" if cell.seeds > 1 else "" for cell in self.cells}
        alone = len(set(models.values())) == len(models)
        broken = {method.runs[0] for method in self.methods if set(method.runs) & set(self.interrupted)}
        marks = {run: "*" if run in broken else "" for run in models}
        return {
            run: escape((model if alone else run) + seeds[run] + marks[run]) for run, model in models.items()
        }

    def notes(self) -> list[str]:
        """Lines to print below the table: what the numbers hold for, and how they were compared."""
        protocol = ", ".join(
            f"{key} {self.protocol[key]}"
            for key in ("dataset", "part", "candidates", "seen", "users", "added")
            if self.protocol.get(key)
        )
        if self.protocol.get("new_users") == "dropped":
            protocol += ", requests without history left out"
        segments = {cell.metric.partition("/")[2] for cell in self.cells}
        parts = [LEGEND] if segments - {"", *OF_REQUESTS} else []
        parts += [USERS_LEGEND] if segments & set(OF_REQUESTS) else []
        parts += [NOT_TRAINED] if any(not cell.trained for cell in self.cells) else []
        parts += [FLOOR] if self.floor else []
        parts += self.remarks
        broken = [
            f"* {run}: training was interrupted, this is the state it had reached."
            for run in self.interrupted
        ]
        return [visible(line) for line in (protocol, *self._how(), *parts, *broken)]

    def _how(self) -> list[str]:
        """How intervals, differences and p-values were made, and which of them say nothing of a method."""
        if not any(cell.difference is not None for cell in self.cells):
            return ["Intervals over users. Differences are given for metrics with a value per user only."]
        over = "users, and over seeds where there are several" if self._seeded() else "users"
        how = [f"Intervals over {over}; difference to {self.reference}, paired by user."]
        if single := [method.runs[0] for method in self.methods if not method.settled]:
            names = ", ".join(single[:3]) + (f" and {len(single) - 3} more" if len(single) > 3 else "")
            how.append(
                f"One trained run of {names}: a difference is one between trained runs, whose seeds alone may make it, "
                "so no p-value of the methods is given. Train several seeds (--seed_everything 1, 2, ...) and compare "
                "all runs."
            )
        if self.comparisons:
            how.append(
                f"p is corrected by Holm's method over the {self.comparisons} comparisons of this table."
            )
        return how

    def _seeded(self) -> bool:
        return any(len(method.runs) > 1 for method in self.methods)


def compare(
    runs: Sequence[str | Path | Run],
    metrics: Sequence[str] | None = None,
    *,
    reference: str | Path | Run | None = None,
    each: bool = False,
) -> Comparison:
    """Compare tested runs, by default in every metric that all of them have, each with the reference run.

    Runs that differ in nothing but their seed are one method, and their mean is compared; `each` keeps them apart.
    Runs are given as `Run` or as their folders; reference is one of them, by default the first. Raises
    RecloomError when there are fewer than two runs, when their protocols differ (each differing field is
    named with its values), for an unknown metric, or where two runs are one model with one seed.
    """
    from ..run_folder import CHECKPOINTS, finished
    from .results import check_protocols, read_results, remarks
    from .significance import holm

    names = [_folder(run) for run in runs]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise RecloomError(
            f"compare: expected two or more different runs, found {', '.join(names) or 'none'}."
        )
    base = names[0] if reference is None else _folder(reference)
    if base not in names:
        raise RecloomError(f"compare: expected the reference to be one of {', '.join(names)}; found {base}.")
    results = {name: read_results(name) for name in names}
    check_protocols(results)
    chosen = _choose(results, metrics)
    methods = group_seeds(names, each=each)
    of_base = next(method for method in methods if base in method.runs)
    cells = [_dashed(cell, results[cell.run]) for cell in _cells(methods, of_base, results, chosen)]
    tested = [(place, cell.p_value) for place, cell in enumerate(cells) if cell.p_value is not None]
    for (place, _), adjusted in zip(tested, holm([p for _, p in tested]), strict=True):
        cells[place] = replace(cells[place], p_holm=adjusted)
    interrupted = [name for name in names if (Path(name) / CHECKPOINTS).is_dir() and not finished(Path(name))]
    protocol = results[base].protocol.model_dump(mode="json")
    floor = {} if any(run.model == "Popularity" for run in results.values()) else results[base].floor
    said = remarks(results[base])
    return Comparison(protocol, of_base.runs[0], cells, interrupted, len(tested), methods, floor, said)


@command("compare")
def compare_command(
    runs: list[str], *, metrics: str | None = None, each: bool = False, out: Path | None = None
) -> None:
    """Show tested runs side by side, with intervals and the difference to the first.

    Runs that differ in nothing but their seed are one method: the table has their mean.

    Args:
        runs: folders that hold a metrics.json; the first is what the others are compared with.
        metrics: names separated by commas, such as ndcg@10,hit@10; by default all that the runs share.
        each: a row for each run, also where several differ in their seed only.
        out: also write the comparison to this JSON file.
    """
    from rich.console import Console

    found = compare(runs, metrics.split(",") if metrics else None, each=each)
    _print_whole(Console(highlight=False), found.table())
    print("\n".join(found.notes()))
    if out is not None:
        out.write_text(found.to_json(), encoding="utf-8")


def _print_whole(console: Console, table: Table) -> None:
    """Print a table with no cell broken or cut off; where the terminal is too narrow, its lines are longer."""
    needed = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.width = max(console.width, needed)
    console.print(table)


def _folder(run: str | Path | Run) -> str:
    return str(getattr(run, "folder", run))


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


def _cells(
    methods: Sequence[Method], base: Method, results: dict[str, Results], metrics: Sequence[str]
) -> list[Cell]:
    """By method, then by metric; adjusting p-values is left to the caller."""
    import polars as pl

    from .results import read_per_user

    frames = {
        name: read_per_user(name).with_columns(pl.col("user_id").cast(pl.String))
        for method in methods
        for name in method.runs
    }
    tests = len(metrics) * (len(methods) - 1)
    cells = []
    for method in methods:
        both = None if method is base else _joined([*method.runs, *base.runs], frames)
        for metric in metrics:
            cell = _mean(method, results, metric, frames)
            cells.append(cell if both is None else _compared(cell, method, base, both, tests))
    return cells


def _joined(runs: Sequence[str], frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The requests that all of these runs have; columns `METRIC@@PLACE`, for the place of a run."""
    import polars as pl

    from .results import KEYS

    table: pl.DataFrame | None = None
    for place, run in enumerate(runs):
        other = frames[run].select(*KEYS, pl.exclude(KEYS).name.suffix(f"@@{place}"))
        table = other if table is None else table.join(other, on=list(KEYS), maintain_order="left")
    assert table is not None
    if table.is_empty():
        raise RecloomError(
            f"compare: expected users common to {runs[-1]} and {runs[0]}, found none; were ids renamed?"
        )
    return table


def _mean(method: Method, results: dict[str, Results], metric: str, frames: dict[str, pl.DataFrame]) -> Cell:
    """The value of one run as it was written; of several, the mean, with an interval where users have values."""
    import numpy as np

    from .significance import seeds_interval

    values: list[MetricValue] = [results[run].metrics[metric] for run in method.runs]
    first, one = method.runs[0], values[0]
    model, higher, seeds = results[first].model, one.higher_is_better, len(values)
    if seeds == 1:
        return Cell(first, model, metric, one.mean, one.low, one.high, one.n, higher)
    if any(value.mean is None for value in values) or any(metric not in frames[run] for run in method.runs):
        means = [value.mean for value in values if value.mean is not None]
        mean = float(np.mean(means)) if len(means) == seeds else None
        return Cell(first, model, metric, mean, None, None, one.n, higher, seeds=seeds)
    columns, users = _columns(_joined(method.runs, frames), metric, range(seeds))
    spread = seeds_interval(columns, users)
    return Cell(first, model, metric, spread.mean, spread.low, spread.high, spread.n, higher, seeds=seeds)


def _columns(table: pl.DataFrame, metric: str, places: range) -> tuple[Any, Any]:
    """(S, R) values of runs by place, and (R,) users."""
    import numpy as np

    return np.stack([table[f"{metric}@@{place}"].to_numpy() for place in places]), table["user_id"].to_numpy()


def _compared(cell: Cell, method: Method, base: Method, both: pl.DataFrame, tests: int) -> Cell:
    """The cell with its difference to the reference, where both have a value per user."""
    from .significance import paired_difference, seeds_difference

    mine, all_runs = len(method.runs), len(method.runs) + len(base.runs)
    if any(f"{cell.metric}@@{place}" not in both.columns for place in range(all_runs)):
        return cell
    ours, users = _columns(both, cell.metric, range(mine))
    theirs, _ = _columns(both, cell.metric, range(mine, all_runs))
    known = both.select("user_id").filter(~(_undefined(ours) | _undefined(theirs)))
    if known["user_id"].n_unique() < 2:
        return cell
    if all_runs == 2:
        found = paired_difference(ours[0], theirs[0], users, tests=tests)
    else:
        found = seeds_difference(ours, theirs, users)
    p = found.p_value if method.settled and base.settled else None
    return replace(
        cell, difference=found.mean, difference_low=found.low, difference_high=found.high, p_value=p
    )


def _undefined(values: Any) -> Any:
    """(R,) bool: whether any of (S, R) is undefined."""
    import numpy as np

    return np.isnan(values).any(axis=0)


def _dashed(cell: Cell, results: Results) -> Cell:
    """The cell, without a test where the model was not trained on the items that it is about."""
    if cell.metric.partition("/")[2] not in results.not_trained_on:
        return cell
    return replace(
        cell, trained=False, difference=None, difference_low=None, difference_high=None, p_value=None
    )


def _best(cells: list[Cell], metric: str) -> float | None:
    values = [cell.mean for cell in cells if cell.metric == metric and cell.mean is not None and cell.trained]
    higher = all(cell.higher_is_better for cell in cells if cell.metric == metric)
    return (max if higher else min)(values, default=None)


def _shown(cell: Cell, best: bool) -> tuple[str, str, str, str]:
    """Value, interval, difference and p-value as text; empty where there is none."""
    if not cell.trained:
        return "–", "", "", ""
    if cell.mean is None:
        return "undefined", "", "", ""
    value = f"[bold]{cell.mean:.4f}[/bold]" if best else f"{cell.mean:.4f}"
    spread = "" if cell.low is None else f"{cell.low:.4f} to {cell.high:.4f}"
    if cell.difference is None or cell.difference_low is None or cell.difference_high is None:
        return value, spread, "", ""
    reach = (cell.difference_high - cell.difference_low) / 2
    p = "" if cell.p_holm is None else f"{cell.p_holm:.2g}"
    return value, spread, f"{cell.difference:+.4f} ± {reach:.4f}", p
