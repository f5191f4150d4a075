"""What a run of SeRALM (reconstruction, see `seralm.py`) leaves behind: the vectors to serve, and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from recloom.language import TextEncoder
from rich.console import Console
from rich.table import Table

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
    work: Rounds, reports: Sequence[Mapping[str, Any]], serve: Literal["best", "mean"], encoder: TextEncoder
) -> None:
    """Write `vectors.parquet` and `report.json`, and tell what came of it."""
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
    print(f"The language model is {PHI}.")
    spread = reports[-1]["reward_spread"]
    if spread is not None and spread < WEAK * work.beta:
        print(
            f"The texts of an item differ by {spread:.3g} nats of reward, of which beta {work.beta:g} makes little; "
            f"--beta {spread:.1g} in a new folder would choose more sharply."
        )
    print(
        f"wrote {target}. Next: recloom fit --model {work.recipe.model} --data {work.data} --data.vectors {target} "
        f"--model.recommender.item_input {work.recipe.options['item_input']}"
    )


def _show(reports: Sequence[Mapping[str, Any]]) -> None:
    table = Table("round", *COLUMNS.values(), title=METHOD, title_justify="left", box=None, pad_edge=False)
    for number, report in enumerate(reports, 1):
        cells = ("" if report[name] is None else f"{report[name]:,.4g}" for name in COLUMNS)
        table.add_row(str(number), *cells)
    Console().print(table)
