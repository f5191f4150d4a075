"""Folders of tested runs with values per user that are made up, as `recloom test` leaves them."""

import json

import numpy as np
from recloom.evaluation.results import write_results
from recloom.schemas import Protocol, RunRecord, SplitSpec

USERS = [f"u{i}" for i in range(200)]
WORSE = np.random.default_rng(0).random(200)


def protocol(**changes):
    given = {
        "dataset": "toy",
        "data_hash": "d",
        "split": SplitSpec(),
        "split_hash": "s",
        "part": "test",
        "candidates": "all",
        "seen": "masked",
        "users": 200,
        "num_items": 6,
    }
    return Protocol(**(given | changes))


def record(folder, loss=None, seed=0, **config):
    """What `recloom fit` keeps beside a run: without a loss, nothing is left to chance."""
    found = RunRecord(
        model="Model",
        recommender={},
        loss=loss,
        seed=seed,
        data="toy",
        protocol=protocol(),
        epochs=0,
        steps=0,
        best=None,
        seconds=0.0,
        versions={},
    )
    (folder / "run.json").write_text(found.model_dump_json())
    trainer = {"max_epochs": 3, "default_root_dir": str(folder), **config}
    (folder / "config.yaml").write_text(json.dumps({"seed_everything": seed, "trainer": trainer}))


def run(folder, ndcg, model="Model", order=slice(None), loss=None, seed=0, **changes):
    values = {"ndcg@10": np.asarray(ndcg), "hit@10": np.round(ndcg)}
    write_results(
        folder,
        model=model,
        protocol=protocol(**changes),
        values={name: np.nanmean(v) for name, v in values.items()} | {"gini@10": 0.5 + np.nanmean(ndcg) / 10},
        per_user={name: v[order] for name, v in values.items()},
        users=USERS[order],
        lower_is_better=["gini@10"],
    )
    record(folder, loss, seed, of=model if loss else folder.name)
    return str(folder)


def shown(found):
    from recloom.evaluation.tables import long_table
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as capture:
        console.print(long_table(found))
    return capture.get()
