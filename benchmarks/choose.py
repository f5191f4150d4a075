"""Choose the settings that ship, by NDCG@10 on the validation part; no test figure is made here.

    python benchmarks/choose.py ml-1m            SASRec, 150 CPU seconds of training each
    python benchmarks/choose.py amazon-beauty    SASRec, stopped early, 400 CPU seconds at most
    python benchmarks/choose.py movies           SASRec and LightGCN on the demo's invented films

Each writes choose-NAME.json beside this file. Seed 0, leave-last-out, full catalogue, history masked.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quality import HERE, grid, prepare, valid

Candidate = tuple[str, dict[str, Any], dict[str, Any]]
"""A recommender, its options, and what else its configuration says."""


def within(seconds: int, **trainer: Any) -> dict[str, Any]:
    """Training that ends after so many CPU seconds."""
    budget = {"class_path": "sasrec_clock.Budget", "init_args": {"seconds": seconds}}
    return {"enable_progress_bar": False, "callbacks": [budget], **trainer}


def candidates(name: str) -> list[Candidate]:
    if name == "ml-1m":
        rest = {"trainer": within(150, limit_val_batches=0), "last": {"every_n_train_steps": 10}}
        return [
            ("SASRec", {}, rest | {"model": {"lr": one["lr"]}, "data": {"windows": one["windows"]}})
            for one in grid(windows=["last", "all"], lr=[1e-3, 3e-3])
        ]
    if name == "amazon-beauty":
        rest = {"trainer": within(400), "early_stopping": {"patience": 3}}
        return [
            ("SASRec", {"dropout": one["dropout"]}, rest | {"data": {"windows": one["windows"]}})
            for one in grid(windows=["all", "last"], dropout=[0.2, 0.5])
        ]
    short = {"enable_progress_bar": False}
    return [
        (
            "SASRec",
            {},
            {
                "trainer": short | {"max_epochs": 12},
                "model": {"lr": one["lr"]},
                "data": {"windows": one["windows"], "batch_size": one["batch_size"]},
            },
        )
        for one in grid(windows=["last", "all"], lr=[1e-3, 3e-3], batch_size=[64, 128])
    ] + [
        (
            "LightGCN",
            {"num_layers": one["layers"]},
            {"trainer": short | {"max_epochs": 30}, "model": {"lr": one["lr"]}, "data": {"batch_size": 2048}},
        )
        for one in grid(layers=[1, 2, 3], lr=[1e-3, 5e-3])
    ]


def dataset(name: str) -> Path:
    """The prepared dataset, made once."""
    if name != "movies":
        return prepare(name)
    from recloom.data.prepare import write_synthetic
    from recloom.data.synth import World, synthesise

    folder = HERE / ".data" / name
    if not (folder / "dataset.json").is_file():
        made, truth, parameters = synthesise(World(like="movies"))
        write_synthetic(made, folder, truth, parameters)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["ml-1m", "amazon-beauty", "movies"])
    name = parser.parse_args().name
    data, rows = str(dataset(name)), []
    for model, options, settings in candidates(name):
        begun = time.process_time()
        found = valid(data, model, options, copy.deepcopy(settings))
        rows.append(
            {"recommender": model, "options": options, "settings": settings, "validation ndcg@10": found}
            | {"cpu_seconds": round(time.process_time() - begun)}
        )
    result = {
        "what": __doc__.strip().splitlines()[0],
        "protocol": "leave-last-out, full catalogue, history masked, ties against the model; validation part, seed 0",
        "rows": rows,
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {package: version(package) for package in ("recloom", "torch", "lightning")},
    }
    (HERE / f"choose-{name}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
