"""The steps of `recloom demo`: who takes part, training and testing, the table, the exported file and its answer."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data.card import CARD, read_card
from ..data.prepare.dataset import write_synthetic
from ..data.prepare.source import prepare_source
from ..data.synth.generator import World, synthesise
from ..errors import RecloomError
from ..evaluation.results import MetricValue, Results, describe
from ..fitting.fit import fit
from ..fitting.training_defaults import OPTIONS
from ..plugins import collect_with_owner
from ..runs.artefacts import INSTALL, artefacts_of, installed_artefacts
from ..runs.run import Run
from ..terminal import plain

SHOWN = 10
"""Items shown of a history, and recommended."""
Tested = tuple[Run, Results]


PACKAGES = {"feature": "recloom-feature", "graph": "recloom-graph", "pretrain": "recloom-pretrain"}
"""Plugins whose models take part, and the packages they come with."""


@dataclass(frozen=True)
class Entrant:
    """A recommender that takes part, and the settings it is given on any data, as its class says (`demo`).

    Training-free ones take their defaults; the others settings that were best by NDCG@10 on the validation part
    of the invented films, among a few that train in half a minute (benchmarks/choose.py).
    """

    model: str
    options: dict[str, Any]
    training: dict[str, Any]

    @property
    def max_epochs(self) -> int:
        """Epochs at most; 1 where nothing is trained."""
        return int(self.training.get("max_epochs", 1))


def entrants() -> list[Entrant]:
    """Who takes part: what needs no training first, then in the order of plugins."""
    models = [kind for kind, _ in collect_with_owner("register_models").values()]
    given = [
        (kind.__name__, dict(vars(kind).get("demo") or {}))
        for kind in models
        if vars(kind).get("demo") is not None
    ]
    found = [Entrant(name, settings.pop("options", {}), settings) for name, settings in given]
    return sorted(found, key=lambda one: one.max_epochs > 1)


def not_installed() -> list[str]:
    """Packages whose models would take part, too."""
    owners = {owner for _, owner in collect_with_owner("register_models").values()}
    return [package for plugin, package in PACKAGES.items() if plugin not in owners]


def prepared(data: Path | None, out: Path) -> Path:
    """The folder of the prepared dataset: `data` itself, or made from it, or invented."""
    if data is None:
        folder = out / "data" / "movies"
        made, truth, parameters = synthesise(World(like="movies"))
        write_synthetic(made, folder, truth, parameters)
    elif (data / CARD).is_file():
        folder = data
    else:
        folder = out / "data" / data.resolve().name
        prepare_source("auto", folder, data)
    card = read_card(folder)
    count = {name: f"{card.counts[name]:,} {name}" for name in ("users", "items", "interactions")}
    print(f"{plain(card.name)}: {', '.join(count.values())}, in {folder}")
    print("Each user's last item is held out, and all items not yet met are ranked.\n", flush=True)
    return folder


def attempt(entrant: Entrant, data: Path, folder: Path, minutes: float) -> Tested | None:
    """Train and test one entrant, and say in one line how it went; None where that is not possible."""
    start = time.monotonic()
    try:
        with _waiting(f"{entrant.model} ..."):
            run, results = trained(entrant, data, folder, minutes)
    except RecloomError as error:
        print(f"{entrant.model:22}left out: {plain(str(error).splitlines()[0], 400)}", flush=True)
        return None
    seconds, epochs = time.monotonic() - start, run.record.epochs
    how = f"trained for {epochs} epochs" if epochs else "fitted"
    print(f"{entrant.model:22}{how} and tested in {seconds:.0f} s", flush=True)
    return run, results


def trained(entrant: Entrant, data: Path, folder: Path, minutes: float) -> Tested:
    """A tested run, as `recloom fit` and `recloom test` make it."""
    config: dict[str, dict[str, Any]] = {
        "trainer": {"enable_progress_bar": False, "max_time": {"seconds": round(60 * minutes)}}
    }
    for name, value in entrant.training.items():
        group, _, option = OPTIONS[name].partition(".")
        config.setdefault(group, {})[option] = value
    with contextlib.redirect_stdout(io.StringIO()):
        run = fit(data, entrant.model, entrant.options, run=folder, config=config)
        return run, run.test()


def exported(runs: list[Run], out: Path) -> Run | None:
    """Export and verify the first run that can be; None where none can, or nothing is installed that exports."""
    if not installed_artefacts():
        print(f"\nNot exported: that needs `{INSTALL}`.")
        return None
    artefacts = artefacts_of(out, "the demo")
    print(flush=True)
    for run in runs:
        try:
            artefacts.export(run.folder, out)
            return run
        except RecloomError as error:
            print(f"{run.record.model} is not exported: {plain(str(error), 400)}", flush=True)
    return None


def ask(run: Run, artefact: Path, user: str) -> None:
    """Show for a user the end of the history and what the file recommends after it."""
    rows = pl.read_parquet(f"{run.data().path}/interactions.parquet", glob=False).filter(user_id=user)
    *history, held_out = rows["item_id"].to_list()
    *times, now = rows["timestamp"].to_list()
    found = artefacts_of(artefact, "the demo").answer(
        artefact, history, user=user, history_times=times, request_time=now, k=SHOWN
    )
    lists = (history[-SHOWN:], found, [held_out])
    read, ranked, (following,) = (run.catalog.titles(run.catalog.item_index(ids)) for ids in lists)
    title = Text("\n") + plain(f"{artefact}, asked for user {plain(user)}, whose last item is held out", 400)
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for column in ("met last", "", "recommended"):
        table.add_column(column, no_wrap=True, max_width=38)
    for number, (last, name) in enumerate(zip_longest(read, ranked, fillvalue=""), 1):
        table.add_row(plain(last), f"{number:2}", plain(name))
    _print(table)
    rank = f"number {found.index(held_out) + 1}" if held_out in found else "not among them"
    _print(plain(f"What the user met next: {plain(following)} ({rank})", 200))


def best_first(tested: list[Tested]) -> list[Tested]:
    """By NDCG@10."""
    return sorted(tested, key=lambda pair: -(pair[1].metrics["ndcg@10"].mean or 0.0))


def show(tested: list[Tested]) -> None:
    """One table in the order given, and the protocol that holds for all of it."""
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


def _print(what: Table | Text | str) -> None:
    Console(highlight=False, markup=False).print(what)  # a title may hold [brackets]


@contextlib.contextmanager
def _waiting(text: str) -> Iterator[None]:
    """Show on a terminal what is being waited for; nothing is left of it, and a file gets none of it."""
    with Console(file=sys.stdout).status(text):
        yield
