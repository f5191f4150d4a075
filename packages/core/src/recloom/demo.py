"""`recloom demo`: prepare data, train and test what is installed, export the best, and ask the exported file."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command import command
from .errors import RecloomError
from .plugins import collect

if TYPE_CHECKING:
    from rich.table import Table

    from .evaluation.results import MetricValue, Results
    from .run import Run

MARK = ".recloom-demo"
"""A file that says: this folder was made by the demo, which may replace its `data` and `runs`."""
SHOWN = 10
"""Items shown of a history, and recommended."""


@dataclass(frozen=True)
class Entrant:
    """A recommender that takes part, and the settings it is given on any data."""

    model: str
    package: str
    options: dict[str, Any] = field(default_factory=dict)
    max_epochs: int = 1
    lr: float = 1e-3
    data: dict[str, Any] = field(default_factory=dict)


ENTRANTS = (
    Entrant("Popularity", "recloom"),
    Entrant("ItemKNN", "recloom"),
    Entrant("EASE", "recloom", {"regularization": 100.0}),
    Entrant("TextMean", "recloom-feature", {"half_life": 3.0}),
    Entrant("PersonalizedPageRank", "recloom-graph", {"damping": 0.3}),
    Entrant("LightGCN", "recloom-graph", {"num_layers": 2}, 30, 5e-3, {"batch_size": 2048}),
    Entrant("SASRec", "recloom-pretrain", {}, 12, 3e-3, {"batch_size": 64, "windows": "all"}),
)


@command("demo")
def demo(
    data: Path | None = None, *, out: Path = Path("demo"), max_minutes: float = 3.0, threads: int = 1
) -> None:
    """Train and compare recommenders, export the best to one file, and ask that file.

    Args:
        data: a prepared dataset, or raw files in a format that `recloom data prepare auto` recognises; by
            default an invented dataset of films.
        out: folder to write. What an earlier demo left in it is replaced; another folder is not touched.
        max_minutes: training of one model stops after this time at the latest.
        threads: that torch computes with; the models are small, and more than one is slower on a busy machine.
    """
    make_room(out, data)
    folder = prepared(data, out)

    import torch

    torch.set_num_threads(threads)
    tested = [
        run
        for entrant in ENTRANTS
        if (run := attempt(entrant, folder, out / "runs" / entrant.model, max_minutes))
    ]
    if not tested:
        raise RecloomError(f"{folder}: none of the models could be trained; the reasons stand above")
    tested.sort(key=lambda pair: -_value(pair[1], "ndcg@10"))
    _show(tested)
    runs = [run for run, _ in tested]
    user = runs[0].catalog.users["user_id"][0]
    best = exported(runs, out / "model.onnx")
    if best:
        _ask(best, out / "model.onnx", user)
    print(f"\nNext:\n  recloom compare {' '.join(str(run.folder) for run in runs[:2])}")
    print(f"  recloom recommend {runs[0].folder} --users {user}")


def make_room(out: Path, data: Path | None) -> None:
    """Make `out`, or remove what an earlier demo left in it. Raises RecloomError for a folder of another kind."""
    if data is not None and out.resolve() in (data.resolve(), *data.resolve().parents):
        raise RecloomError(
            f"{data} lies in {out}, which the demo replaces. Choose another folder with --out."
        )
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RecloomError(f"{out} exists and was not made by the demo. Choose another folder with --out.")
    for name in ("data", "runs"):
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


def prepared(data: Path | None, out: Path) -> Path:
    """The folder of the prepared dataset: `data` itself, or made from it, or invented."""
    from .data.prepare import CARD, read_card, write_synthetic
    from .data.readers import ReadOptions
    from .data.source import prepare_source
    from .data.synth import World, synthesise

    if data is None:
        folder = out / "data" / "movies"
        made, truth, parameters = synthesise(World(like="movies"))
        write_synthetic(made, folder, truth, parameters)
    elif (data / CARD).is_file():
        folder = data
    else:
        folder = out / "data" / data.resolve().name
        prepare_source("auto", folder, data, None, ReadOptions())
    card = read_card(folder)
    count = {name: f"{card.counts[name]:,} {name}" for name in ("users", "items", "interactions")}
    print(f"{card.name}: {', '.join(count.values())}, in {folder}")
    print("Each user's last item is held out, and all items not yet met are ranked.\n", flush=True)
    return folder


def attempt(entrant: Entrant, data: Path, folder: Path, minutes: float) -> tuple[Run, Results] | None:
    """Train and test one entrant, and say in one line how it went; None where that is not possible."""
    if entrant.model not in collect("register_models"):
        print(f"{entrant.model:22}left out: needs `pip install {entrant.package}`", flush=True)
        return None
    start = time.monotonic()
    try:
        with _waiting(f"{entrant.model} ..."):
            run, results = trained(entrant, data, folder, minutes)
    except RecloomError as error:
        print(f"{entrant.model:22}left out: {str(error).splitlines()[0]}", flush=True)
        return None
    seconds, epochs = time.monotonic() - start, run.record.epochs
    how = f"trained for {epochs} epochs" if epochs else "fitted"
    print(f"{entrant.model:22}{how} and tested in {seconds:.0f} s", flush=True)
    return run, results


def trained(entrant: Entrant, data: Path, folder: Path, minutes: float) -> tuple[Run, Results]:
    """A tested run, as `recloom fit` and `recloom test` make it."""
    from .training import fit

    config = {
        "data": entrant.data,
        "model": {"lr": entrant.lr},
        "trainer": {"enable_progress_bar": False, "max_time": {"seconds": round(60 * minutes)}},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        run = fit(
            data, entrant.model, entrant.options, run=folder, max_epochs=entrant.max_epochs, config=config
        )
        return run, run.test()


def exported(runs: list[Run], out: Path) -> Run | None:
    """Export and verify the first run that can be; None where none can, or nothing is installed that exports."""
    export = collect("register_commands").get("export")
    if export is None:
        print("\nNot exported: that needs `pip install 'recloom-onnx[cpu]'`.")
        return None
    print(flush=True)
    for run in runs:
        try:
            export(str(run.folder), out=str(out))
            return run
        except RecloomError as error:
            print(f"{run.record.model} is not exported: {error}", flush=True)
    return None


def answer(artefact: Path, user: str, history: list[str], k: int = SHOWN) -> list[str]:
    """The k best raw item ids by an exported file, asked through onnxruntime and nothing else."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artefact), providers=["CPUExecutionProvider"])
    given = {
        "history": np.array([history], dtype=object),
        "blocked": np.empty((1, 0), dtype=object),
        "user": np.array([user], dtype=object),
        "k": np.array([k], dtype=np.int64),
    }
    wanted = {port.name: given[port.name] for port in session.get_inputs()}
    (items,) = session.run(["item_id"], wanted)
    return [item for item in items[0].tolist() if item]


def _ask(run: Run, artefact: Path, user: str) -> None:
    """Show for a user the end of the history and what the file recommends after it."""
    import polars as pl
    from rich.table import Table

    rows = pl.read_parquet(f"{run.data().path}/interactions.parquet", columns=["user_id", "item_id"])
    *history, held_out = rows.filter(user_id=user)["item_id"].to_list()
    found = answer(artefact, user, history)
    read, ranked, (following,) = map(_titles(run), (history[-SHOWN:], found, [held_out]))
    table = Table(
        box=None, pad_edge=False, title=f"\n{artefact}, asked for user {user}", title_justify="left"
    )
    for column in ("met last", "", "recommended"):
        table.add_column(column, no_wrap=True, max_width=38)
    for number, (last, title) in enumerate(zip_longest(read, ranked, fillvalue=""), 1):
        table.add_row(last, f"{number:2}", title)
    _print(table)
    rank = f"number {found.index(held_out) + 1}" if held_out in found else "not among them"
    _print(f"What the user met next: {following} ({rank})")


def _titles(run: Run) -> Any:
    return lambda ids: run.catalog.titles(run.catalog.item_index(ids))


def _show(tested: list[tuple[Run, Results]]) -> None:
    """One table, best first, and the protocol that holds for all of it."""
    from rich.table import Table

    from .evaluation.results import describe

    table = Table(box=None, pad_edge=False)
    table.add_column("\nmodel", no_wrap=True)
    for column in ("NDCG@10", "95 % interval", "HR@10", "95 % interval", "coverage"):
        table.add_column(f"\n{column}", justify="right", no_wrap=True)
    for run, results in tested:
        ndcg, hit, coverage = (results.metrics[name] for name in ("ndcg@10", "hit@10", "coverage@10"))
        table.add_row(run.record.model, *_cells(ndcg), *_cells(hit), _cells(coverage)[0])
    _print(table)
    _print(describe(tested[0][1].protocol))


def _cells(metric: MetricValue) -> tuple[str, str]:
    spread = "" if metric.low is None else f"{metric.low:.4f}–{metric.high:.4f}"
    return ("-" if metric.mean is None else f"{metric.mean:.4f}"), spread


def _value(results: Results, metric: str) -> float:
    return results.metrics[metric].mean or 0.0


def _print(what: Table | str) -> None:
    from rich.console import Console

    Console(highlight=False).print(what)


@contextlib.contextmanager
def _waiting(text: str) -> Iterator[None]:
    """Show on a terminal what is being waited for; nothing is left of it, and a file gets none of it."""
    from rich.console import Console

    with Console(file=sys.stdout).status(text):
        yield
