"""LightGCN, SimGCL, SGL, personalised PageRank, EASE and ItemKNN in one table with intervals.

    python benchmarks/graph_table.py amazon-beauty
    python benchmarks/graph_table.py ml-1m

Leave-last-out, full catalogue, history masked, ties against the model. What is trained has three seeds, is stopped by
NDCG@10 on validation, and by SECONDS of CPU time for each fit: quick figures, not each model at its best, and no
setting is tuned. Interrupted, it goes on where it stopped. Writes graph_table-NAME.json here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paired import differences, rows
from quality import prepare

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
METRICS = ["ndcg@10", "hit@10", "recall@20", "coverage@10"]
REPORTED = ("ndcg@10", "hit@10", "recall@20")
SECONDS, SEEDS = 180, (0, 1, 2)
GRAPH = {"dim": 64, "num_layers": 2}
FIT = {"batch_size": 16384, "lr": 1e-2, "max_epochs": 200, "patience": 5}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "Popularity": ({}, None),
    "ItemKNN": ({}, None),
    "EASE": ({}, None),
    "PersonalizedPageRank": ({"damping": 0.5}, None),
    "LightGCN": (GRAPH, {"class_path": "BPR", "init_args": {"l2": 1e-4}}),
    "SGL": (GRAPH, {"class_path": "DroppedEdges"}),
    "SimGCL": (GRAPH, {"class_path": "NoisyViews"}),
}
"""Model to its options and its loss; the rest is as the package has it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=["amazon-beauty", "ml-1m"])
    given = parser.parse_args()
    data = prepare(given.dataset)
    for seed in SEEDS:
        for model, (_, loss) in MODELS.items():
            if loss is not None or seed == SEEDS[0]:
                train(data, given.dataset, model, seed)
    report(given.dataset)


def train(data: Path, name: str, model: str, seed: int) -> None:
    """Fit and test one model with one seed, unless it was done."""
    import recloom
    from recloom.run_folder import finished

    run = folder_of(name, model, seed)
    if finished(run) and (run / "metrics.json").is_file():
        return
    sys.path.insert(0, str(HERE))  # where the configuration of the run finds the callback
    options, loss = MODELS[model]
    config: dict[str, Any] = {
        "trainer": {"enable_progress_bar": False},
        "model": {"metrics": METRICS},
        "overwrite": True,
    }
    if loss is not None:
        clock = {"class_path": "sasrec_clock.Budget", "init_args": {"seconds": SECONDS}}
        config["trainer"]["callbacks"] = [clock]
        config["model"]["lr"] = FIT["lr"]
        config |= {
            "data": {"batch_size": FIT["batch_size"]},
            "early_stopping": {"patience": FIT["patience"]},
        }
    found = recloom.fit(
        data, model, options, loss=loss, run=run, seed=seed, max_epochs=FIT["max_epochs"], config=config
    ).test()
    print(model, seed, {one: round(found.metrics[one].mean or 0.0, 4) for one in REPORTED}, flush=True)


def report(name: str) -> None:
    """Means of the seeds with intervals, and each graph model against LightGCN."""
    from recloom.evaluation import read_per_user
    from recloom.runs import load

    seeds = {model: SEEDS if loss else SEEDS[:1] for model, (_, loss) in MODELS.items()}
    folders = {model: [folder_of(name, model, seed) for seed in seeds[model]] for model in MODELS}
    tables = {model: [read_per_user(folder) for folder in found] for model, found in folders.items()}
    against = [(one, "LightGCN") for one in MODELS if one != "LightGCN"]
    result = {
        "what": (__doc__ or "").splitlines()[0],
        "dataset": name,
        "protocol": "leave-last-out, full catalogue, history masked, ties against the model",
        "selection": f"stopped by validation NDCG@10, patience {FIT['patience']}, or after {SECONDS} CPU seconds",
        "settings": {
            "models": {model: options for model, (options, _) in MODELS.items()},
            "fit": FIT,
            "losses": {model: loss for model, (_, loss) in MODELS.items() if loss},
        },
        "rows": dict(rows(tables, REPORTED)),
        "epochs": {
            model: [load(folder).record.epochs for folder in found] for model, found in folders.items()
        },
        "paired": list(differences(tables, against, REPORTED)),
        "seeds": list(SEEDS),
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {one: version(one) for one in ("recloom", "recloom-graph", "torch", "lightning")},
    }
    (HERE / f"graph_table-{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def folder_of(name: str, model: str, seed: int) -> Path:
    return HERE / ".data" / "graph-table" / name / f"{model}-{seed}"


if __name__ == "__main__":
    main()
