"""What a run of SeRALM (reconstruction, see `seralm.py`) leaves behind: the vectors to serve, and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from recloom.data.catalog import Catalog
from rich.console import Console
from rich.table import Table

from .seralm_folder import METHOD, Folder, write_json
from .seralm_tables import read_posterior, read_variants, write_served

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
    data: Path, folder: Folder, catalog: Catalog, reports: Sequence[Mapping[str, Any]], serve: Literal["best", "mean"],
    beta: float,
) -> None:  # fmt: skip
    """Write `vectors.parquet` and `report.json`, and tell what came of it."""
    variants = read_variants(folder.file("variants.parquet"), catalog)
    last = folder.round(len(reports)).file("posterior.parquet")
    target = folder.file("vectors.parquet")
    write_served(target, catalog, variants, read_posterior(last, variants, catalog), serve)
    write_json(
        folder.file("report.json"),
        {"language_model": PHI, "beta": beta, "served": serve, "language_model_calls_when_serving": 0}
        | {"rounds": list(reports)},
    )
    _show(reports)
    print(f"The language model is {PHI}.")
    spread = reports[-1]["reward_spread"]
    if spread is not None and spread < WEAK * beta:
        print(
            f"The texts of an item differ by {spread:.3g} nats of reward, which beta {beta:g} hardly sees; "
            f"--beta {spread:.1g} in a new folder would choose more sharply."
        )
    print(
        f"wrote {target}. Next: recloom fit --data {data} --model.recommender.item_input id+vector "
        f"--data.vectors {target} --model SASRec"
    )


def _show(reports: Sequence[Mapping[str, Any]]) -> None:
    table = Table("round", *COLUMNS.values(), title=METHOD, title_justify="left", box=None, pad_edge=False)
    for number, report in enumerate(reports, 1):
        cells = ("" if report[name] is None else f"{report[name]:,.4g}" for name in COLUMNS)
        table.add_row(str(number), *cells)
    Console().print(table)
