"""Tune every recommender modestly on validation, then test it with three seeds, leave-last-out, full catalogue.

    python benchmarks/quality.py ml-latest-small      writes quality-ml-latest-small.json beside this file

For each recommender the settings below are tried with seed 0 until its CPU budget is spent; the best NDCG@10 on
the validation part is tested with seeds 0, 1 and 2. Test figures are never looked at while choosing. What takes no
seed is tested once. Means are over users and seeds; the 95 % intervals are by bootstrap over users, whose values of
all seeds are drawn together. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
READERS = {
    "ml-latest-small": ("movielens", "."),
    "amazon-beauty": ("sequences", "Beauty.txt"),
    "ml-1m": ("sequences", "sequences.txt"),
}
BUDGET = 15 * 60
"""CPU seconds of tuning for each recommender."""
METRICS = ["ndcg@10", "hit@10", "coverage@10"]
SEEDS = (0, 1, 2)


def grid(**choices: list[Any]) -> list[dict[str, Any]]:
    """All combinations, the first value of each option first."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def neural(options: list[dict[str, Any]], **settings: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(option, settings) for option in options]


FREE: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "Random": neural([{}]),
    "Popularity": neural([{}]),
    "ItemKNN": neural(grid(neighbours=[100, 50, 200], shrink=[10.0, 0.0, 50.0])),
    "EASE": neural(grid(regularization=[500.0, 200.0, 1000.0, 2000.0])),
    "TextMean": neural(grid(columns=[["title"], ["title", "genres"]], half_life=[None, 3.0])),
    "PersonalizedPageRank": neural(grid(damping=[0.5, 0.3, 0.85])),
}
TRAINED: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "LightGCN": [
        (option, {"model": {"lr": lr}, "data": {"batch_size": 2048}})
        for lr in (5e-3, 1e-3)
        for option in grid(num_layers=[2, 3])
    ],
    "SASRec": [
        ({}, {"model": {"lr": one["lr"]}, "data": {"windows": one["windows"]}})
        for one in grid(windows=["all", "last"], lr=[3e-3, 1e-3])
    ],
    "BERT4Rec": [
        ({}, {"model": {"lr": one["lr"]}, "data": {"windows": one["windows"]}})
        for one in grid(windows=["all", "last"], lr=[3e-3, 1e-3])
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=list(READERS))
    parser.add_argument("--models", nargs="*", default=[*FREE, *TRAINED])
    given = parser.parse_args()
    data = prepare(given.dataset)
    target = HERE / f"quality-{given.dataset}.json"
    for model in given.models:
        if model not in kept(target)["rows"]:
            row = measure(str(data), model)
            result = kept(target)  # another process may have added rows
            result["rows"][model] = row
            result |= {
                "what": __doc__.strip().splitlines()[0],
                "dataset": given.dataset,
                "protocol": "leave-last-out, full catalogue, history masked, ties against the model",
                "selection": f"validation NDCG@10 with seed 0, at most {BUDGET} CPU seconds for each recommender",
                "machine": {"cores": os.cpu_count(), "threads": 1},
                "date": date.today().isoformat(),
                "versions": {name: version(name) for name in ("recloom", "torch", "lightning", "numpy")},
            }
            target.write_text(json.dumps(result, indent=2) + "\n")
            print(model, json.dumps(result["rows"][model]["test"]), flush=True)


def kept(target: Path) -> dict[str, Any]:
    """What was measured so far."""
    return json.loads(target.read_text()) if target.exists() else {"rows": {}}


def prepare(name: str) -> Path:
    """The prepared dataset, made once."""
    from recloom.cli.main import main as recloom

    folder = HERE / ".data" / name
    if not (folder / "dataset.json").is_file():
        reader, file = READERS[name]
        recloom(["data", "prepare", reader, "--path", str(SHARED / name / file), "--out", str(folder)])
    return folder


def measure(data: str, model: str) -> dict[str, Any]:
    """Choose settings on validation, then test them."""
    begun, tried = time.process_time(), []
    for options, settings in (FREE | TRAINED)[model]:
        tried.append(
            {"options": options, "settings": settings, "valid": valid(data, model, options, settings)}
        )
        if time.process_time() - begun > BUDGET:
            break
    best = max(tried, key=lambda found: found["valid"])
    spent = time.process_time() - begun
    seeds = SEEDS if model in TRAINED or model == "Random" else SEEDS[:1]
    tests = [test(data, model, best["options"], best["settings"], seed) for seed in seeds]
    whole = pooled([users for _, users in tests])
    means = [found for found, _ in tests]
    whole["coverage@10"] = {"mean": statistics.mean(found["coverage@10"] for found in means)}
    return {
        "tuning_cpu_seconds": round(spent),
        "chosen": best,
        "tried": tried,
        "test": whole,
        "of each seed": dict(zip(map(str, seeds), means, strict=True)),
    }


def pooled(tables: list[Any]) -> dict[str, dict[str, float]]:
    """Means over users and seeds, with intervals, from the tables of values per user of each seed."""
    import polars as pl
    from recloom.evaluation import intervals

    rows = pl.concat(tables)
    names = [name for name in METRICS if name in rows.columns]
    found = intervals({name: rows[name].to_numpy() for name in names}, rows["user_id"].to_numpy())
    return {name: {key: getattr(found[name], key) for key in ("mean", "low", "high")} for name in names}


def train(data: str, model: str, options: dict[str, Any], settings: dict[str, Any], seed: int) -> Any:
    import tempfile

    import recloom

    if model == "Random":
        options = options | {"seed": seed}
    config = {
        "trainer": {"enable_progress_bar": False, "max_epochs": 200},
        "early_stopping": {"patience": 15},
        **{key: dict(value) for key, value in settings.items()},
    }
    config["model"] = {"metrics": METRICS} | config.get("model", {})
    return recloom.fit(
        data, model, options, run=tempfile.mkdtemp() + "/run", seed=seed, max_epochs=200, config=config
    )


def valid(data: str, model: str, options: dict[str, Any], settings: dict[str, Any]) -> float:
    """NDCG@10 on the validation part."""
    import lightning as L

    run = train(data, model, options, settings, 0)
    trainer = L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False
    )
    found = trainer.validate(run.module, run.data(), verbose=False)[0]["val/ndcg@10"]
    print(f"  {model} {options} {settings}: validation NDCG@10 {found:.4f}", flush=True)
    return float(found)


def test(
    data: str, model: str, options: dict[str, Any], settings: dict[str, Any], seed: int
) -> tuple[dict[str, float], Any]:
    """Means on the test part, and the table of values per user."""
    from recloom.evaluation import read_per_user

    run = train(data, model, options, settings, seed)
    found = run.test()
    return {name: found.metrics[name].mean or 0.0 for name in METRICS}, read_per_user(run.folder)


if __name__ == "__main__":
    main()
