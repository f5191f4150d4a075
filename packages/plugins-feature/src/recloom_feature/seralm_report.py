"""What a run of SeRALM (reconstruction, see `seralm.py`) leaves behind: the vectors to serve, and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from recloom.language import TextEncoder
from rich.console import Console
from rich.table import Table

from .next_command import fit_with_vectors
from .seralm_folder import METHOD, write_json
from .seralm_rounds import Rounds
from .seralm_tables import read_posterior, write_served

PHI = "as it was: the rounds choose among its texts (selection only) and train no language model"
WEAK = 0.1
"""Below this part of beta, differences of rewards hardly move the posterior."""
COLUMNS = {
    "epochs": "epochs",
    "items": "items judged",
    "reward_spread": "best - worst reward",
    "likeliest": "q of the likeliest",
    "effective_texts": "texts in effect",
    "changed": "likeliest changed",
}


def finish(
    work: Rounds,
    reports: Sequence[Mapping[str, Any]],
    serve: Literal["best", "mean"],
    encoder: TextEncoder,
    config: Path | None = None,
) -> None:
    """Write `vectors.parquet` and `report.json`, and tell what came of it; `config` is the file of the fits."""
    last = work.folder.round(len(reports)).file("posterior.parquet")
    target = work.folder.file("vectors.parquet")
    q = read_posterior(last, work.variants, work.catalog)
    # the choice among texts was learnt from training rows, so a run with another split must not read it
    made = {"texts": "texts.parquet", "columns": None} | reports[-1]["trained_on"]
    write_served(
        target, work.catalog, work.variants, q, serve, made, json.dumps(encoder.identity, sort_keys=True)
    )
    write_json(
        work.folder.file("report.json"),
        {"language_model": PHI, "language_model_calls_when_serving": 0, "served": serve}
        | {"beta": work.beta, "prior": work.prior, "rounds": list(reports)},
    )
    _show(reports)
    print("The language model stays as it was (selection only).")
    print(_sharpness(reports[-1]["reward_spread"], work.beta), end="")
    shown = work.folder.path / target.name
    print(f"wrote {shown}")
    print(fit_with_vectors(work.data, shown, work.recipe.model, work.recipe.options["item_input"], config))


def _sharpness(spread: float | None, beta: float) -> str:
    """What to change where the rewards hardly moved the posterior."""
    if not spread:
        return "No item that was judged has texts that differ: nothing was chosen.\n"
    if spread >= WEAK * beta:
        return ""
    return (
        f"The texts of an item differ by {spread:.3g} nats of reward, little for beta {beta:g};\n"
        f"--beta {spread:.1g} in a new folder would choose more sharply.\n"
    )


def _show(reports: Sequence[Mapping[str, Any]]) -> None:
    table = Table("round", *COLUMNS.values(), title=METHOD, title_justify="left", box=None, pad_edge=False)
    for number, report in enumerate(reports, 1):
        cells = ("" if report[name] is None else f"{report[name]:,.4g}" for name in COLUMNS)
        table.add_row(str(number), *cells)
    Console().print(table)
