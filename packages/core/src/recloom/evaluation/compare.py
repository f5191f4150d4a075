"""`recloom compare`: tested runs of one protocol side by side, with paired differences to the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..command import command
from ..errors import RecloomError
from .comparison import Cell, Comparison, FitCost
from .methods import Method, group_seeds, read_record

if TYPE_CHECKING:
    import polars as pl

    from ..runs.run import Run
    from .results import MetricValue, Results


Format = Literal["terminal", "markdown", "latex", "csv"]


def compare(
    runs: Sequence[str | Path | Run],
    metrics: Sequence[str] | None = None,
    *,
    reference: str | Path | Run | None = None,
    each: bool = False,
    long: bool = False,
) -> Comparison:
    """Compare tested runs, by default in every metric that all of them have, each with the reference run.

    Runs that differ in nothing but their seed are one method, and their mean is compared; `each` keeps them apart.
    p-values are those of the first metric, adjusted over the methods; `long` has one for every metric and adjusts over
    all of them, and is shown metric by metric.
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
    chosen = _choose(results, metrics, long)
    methods = group_seeds(names, each=each)
    of_base = next(method for method in methods if base in method.runs)
    tested = None if long else chosen[0]
    cells = [_dashed(cell, results[cell.run]) for cell in _cells(methods, of_base, results, chosen, tested)]
    p_values = [(place, cell.p_value) for place, cell in enumerate(cells) if cell.p_value is not None]
    for (place, _), adjusted in zip(p_values, holm([p for _, p in p_values]), strict=True):
        cells[place] = replace(cells[place], p_holm=adjusted)
    interrupted = [name for name in names if (Path(name) / CHECKPOINTS).is_dir() and not finished(Path(name))]
    protocol = results[base].protocol.model_dump(mode="json")
    floor = {} if any(run.model == "Popularity" for run in results.values()) else results[base].floor
    said = remarks(results[base])
    return Comparison(
        protocol=protocol,
        reference=of_base.runs[0],
        cells=cells,
        interrupted=interrupted,
        comparisons=len(p_values),
        methods=methods,
        floor=floor,
        remarks=said,
        tested=tested,
        costs={method.runs[0]: _cost(method) for method in methods},
    )


@command("compare")
def compare_command(
    runs: list[str],
    *,
    metrics: str | None = None,
    each: bool = False,
    long: bool = False,
    format: Format = "terminal",
    out: Path | None = None,
) -> None:
    """Show tested runs side by side, a row for each model, with intervals and the difference to the first.

    Runs that differ in nothing but their seed are one method: the table has their mean. The difference and its p-value
    are of the first metric.

    Args:
        runs: folders that hold a metrics.json; the first is what the others are compared with.
        metrics: names separated by commas, such as ndcg@10,hit@10; by default all that the runs share.
        each: a row for each run, also where several differ in their seed only.
        long: metric by metric, with a difference and a p-value for each, and the segments of items and users.
        format: how the table of models is written: for the terminal, or as markdown, latex or csv.
        out: also write the comparison to this JSON file.
    """
    from rich.console import Console

    if long and format != "terminal":
        raise RecloomError("compare: --long is for the terminal; leave out --long or --format.")
    found = compare(runs, metrics.split(",") if metrics else None, each=each, long=long)
    if format == "terminal":
        found.show(Console(highlight=False))
        print("\n".join(found.notes()))
    else:
        print(found.models.to(format), end="")
    if out is not None:
        out.write_text(found.to_json(), encoding="utf-8")


def _folder(run: str | Path | Run) -> str:
    return str(getattr(run, "folder", run))


def _choose(results: dict[str, Results], metrics: Sequence[str] | None, long: bool) -> list[str]:
    shared = [
        m for m in next(iter(results.values())).metrics if all(m in run.metrics for run in results.values())
    ]
    chosen = [name.strip() for name in metrics] if metrics else _worth_showing(results, shared, long)
    if missing := [name for name in chosen if name not in shared] or ([] if chosen else ["any"]):
        raise RecloomError(
            f"compare: expected metrics that every run has ({', '.join(shared) or 'there are none'}), "
            f"found {', '.join(missing)}; test the runs again with the same metrics."
        )
    return chosen


def _worth_showing(results: dict[str, Results], shared: list[str], long: bool) -> list[str]:
    """Metrics of all items, and in the long form of the segments that say more, metric by metric."""
    from .results import told_apart

    apart = {segment for run in results.values() for segment in told_apart(run)} if long else set()
    return [name for name in shared if "/" not in name or name.partition("/")[2] in apart]


def _cells(
    methods: Sequence[Method],
    base: Method,
    results: dict[str, Results],
    metrics: Sequence[str],
    tested: str | None,
) -> list[Cell]:
    """By method, then by metric; a p-value for the tested one, or for each, which the caller adjusts."""
    import polars as pl

    from .results import read_per_user

    frames = {
        name: read_per_user(name).with_columns(pl.col("user_id").cast(pl.String))
        for method in methods
        for name in method.runs
    }
    tests = (1 if tested else len(metrics)) * (len(methods) - 1)
    cells = []
    for method in methods:
        both = None if method is base else _joined([*method.runs, *base.runs], frames)
        for metric in metrics:
            cell = _mean(method, results, metric, frames)
            if both is not None:
                cell = _compared(cell, method, base, both, tests)
                cell = cell if tested in (None, metric) else replace(cell, p_value=None)
            cells.append(cell)
    return cells


def _cost(method: Method) -> FitCost:
    """Means over the runs of a method that recorded it."""
    import numpy as np

    found = [record for run in method.runs if (record := read_record(Path(run))) is not None]
    seconds = [one.cpu_seconds for one in found if one.cpu_seconds is not None]
    parameters = [one.parameters for one in found if one.parameters is not None]
    return FitCost(
        float(np.mean(seconds)) if seconds else None,
        max(parameters, default=None),
        float(np.mean([one.epochs for one in found])) if found else None,
    )


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
