"""LightGCN, SimGCL, SGL, personalised PageRank, EASE and ItemKNN in one table with intervals.

    python benchmarks/graph_table.py amazon-beauty
    python benchmarks/graph_table.py ml-1m
    python benchmarks/graph_table.py ml-1m --only SGL SimGCL     trains these, and reports where all are done

Leave-last-out, full catalogue, history masked, ties against the model. What is trained has three seeds and ends when
NDCG@10 on validation has not risen for PATIENCE epochs, whatever that takes: an epoch of SGL and SimGCL costs three
propagations where LightGCN's costs one, so that equal seconds would compare unequal trainings. What each took (epochs,
the best of them, steps, CPU seconds) stands beside its figures. A fit that came to MAX_EPOCHS while it still rose is an
error, and no table is written. No setting is tuned. Interrupted, it goes on after its last whole epoch. Writes
graph_table-NAME.json here.
"""

from __future__ import annotations

import argparse
import json
import os
import time
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
SEEDS = (0, 1, 2)
PATIENCE, MAX_EPOCHS = 15, 2000
CLOCK = "cpu-seconds"
GRAPH = {"dim": 64, "num_layers": 2}
FIT = {"batch_size": 16384, "lr": 1e-2}
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
    parser.add_argument("--only", nargs="*", choices=list(MODELS), default=list(MODELS))
    given = parser.parse_args()
    data = prepare(given.dataset)
    for seed in SEEDS:
        for model in given.only:
            if MODELS[model][1] is not None or seed == SEEDS[0]:
                train(data, given.dataset, model, seed)
    report(given.dataset)


def train(data: Path, name: str, model: str, seed: int) -> None:
    """Fit and test one model with one seed, unless it was done; a fit that was interrupted goes on."""
    import recloom
    from recloom.fitting.fit import run_command
    from recloom.run_folder import finished

    run = folder_of(name, model, seed)
    if finished(run) and (run / "metrics.json").is_file():
        return
    options, loss = MODELS[model]
    config: dict[str, Any] = {
        "trainer": {"enable_progress_bar": False},
        "model": {"metrics": METRICS},
        "overwrite": True,
    }
    if loss is not None:
        config["model"]["lr"] = FIT["lr"]
        config |= {
            "data": {"batch_size": FIT["batch_size"]},
            "early_stopping": {"patience": PATIENCE, "patience_steps": 0},
        }
    if not finished(run):
        began = time.process_time()
        if (run / "checkpoints" / "last.ckpt").is_file():
            run_command(
                ["fit", "--run", str(run), "--ckpt_path", "last", "--trainer.enable_progress_bar=false"]
            )
        else:
            recloom.fit(
                data, model, options, loss=loss, run=run, seed=seed, max_epochs=MAX_EPOCHS, config=config
            )
        (run / CLOCK).write_text(f"{time.process_time() - began:.1f}\n")
    found = recloom.load(run).test()
    print(model, seed, {one: round(found.metrics[one].mean or 0.0, 4) for one in REPORTED}, flush=True)


def took(run: Path) -> dict[str, Any]:
    """How long the training of a run was, and its best epoch by validation."""
    from recloom.runs import load
    from recloom.training.checkpoint import read_checkpoint

    record = load(run).record
    best = run / "checkpoints" / "best.ckpt"
    return {
        "epochs": record.epochs,
        "best epoch": read_checkpoint(best)["epoch"] + 1 if best.is_file() else None,
        "steps": record.steps,
        "cpu seconds since its last start": float((run / CLOCK).read_text()),
        "valid ndcg@10": record.best,
    }


def refuse_unfinished(trained: dict[str, list[dict[str, Any]]]) -> None:
    """Models are compared where validation no longer rises, and nowhere else."""
    short = [
        f"{model} (seed {seed}: {one['epochs']} epochs, best {one['best epoch']})"
        for model, found in trained.items()
        for seed, one in zip(SEEDS, found, strict=False)
        if one["steps"] and one["epochs"] >= MAX_EPOCHS
    ]
    if short:
        raise SystemExit(
            f"validation still rose after {MAX_EPOCHS} epochs: {', '.join(short)}. Raise MAX_EPOCHS."
        )


def report(name: str) -> None:
    """Means of the seeds with intervals, and each graph model against LightGCN."""
    from recloom.evaluation import read_per_user

    seeds = {model: SEEDS if loss else SEEDS[:1] for model, (_, loss) in MODELS.items()}
    folders = {model: [folder_of(name, model, seed) for seed in seeds[model]] for model in MODELS}
    missing = [
        run.name for found in folders.values() for run in found if not (run / "metrics.json").is_file()
    ]
    if missing:
        print(f"no table yet: {', '.join(missing)} are not tested")
        return
    trained = {model: [took(run) for run in found] for model, found in folders.items()}
    refuse_unfinished(trained)
    tables = {model: [read_per_user(folder) for folder in found] for model, found in folders.items()}
    against = [(one, "LightGCN") for one in MODELS if one != "LightGCN"]
    result = {
        "what": (__doc__ or "").splitlines()[0],
        "dataset": name,
        "protocol": "leave-last-out, full catalogue, history masked, ties against the model",
        "selection": f"trained until NDCG@10 on validation has not risen for {PATIENCE} epochs; the best is tested",
        "settings": {
            "models": {model: options for model, (options, _) in MODELS.items()},
            "fit": FIT,
            "losses": {model: loss for model, (_, loss) in MODELS.items() if loss},
        },
        "rows": dict(rows(tables, REPORTED)),
        "took": trained,
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
