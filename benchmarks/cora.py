"""Graph convolutions on sets whose figures are published: GCN on Cora, over ten seeds.

    python benchmarks/cora.py --data ../shared/data

Trained and tested through `recloom fit` and `recloom test`: the standard split of Planetoid, and the epoch of the
best validation accuracy. Writes cora.json here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from recloom.training import run_command

PUBLISHED = {"cora": 0.815}
"""Test accuracy of GCN: Kipf and Welling, ICLR 2017, table 2, the mean of 100 runs."""
QUIET = ["--trainer.enable_progress_bar=false"]


def measured(words: list[str], run: Path, seed: int) -> dict[str, Any]:
    """One fit and its test."""
    begin = perf_counter()
    run_command(["fit", *words, "--run", str(run), f"--seed_everything={seed}", *QUIET])
    seconds = perf_counter() - begin
    run_command(["test", str(run)])
    results = json.loads((run / "metrics.json").read_text("utf-8"))
    return results | {"seconds": round(seconds, 1), "seed": seed}


def over_seeds(words: list[str], folder: Path, seeds: int) -> dict[str, Any]:
    """Mean, deviation and every seed of one command."""
    runs = [measured(words, folder / f"{seed}", seed) for seed in range(seeds)]
    found = [one["metrics"]["accuracy"] for one in runs]
    return {
        "command": "recloom fit " + " ".join(word for word in words if "/" not in word),
        "mean": round(statistics.mean(found), 4),
        "sd": round(statistics.stdev(found), 4),
        "seeds": {
            one["seed"]: {"accuracy": round(one["metrics"]["accuracy"], 4), "epoch": one["epoch"] + 1}
            for one in runs
        },
        "seconds_a_fit": round(statistics.median(one["seconds"] for one in runs), 1),
        "protocol": runs[0]["protocol"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds planetoid/")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = ["--model", "NodeProperty", "--data", str(args.data / "planetoid"), "--data.name", "cora"]
        cora = over_seeds(words, Path(folder) / "cora", args.seeds) | {"published": PUBLISHED["cora"]}
        print(f"GCN on Cora: {cora['mean']:.4f} +- {cora['sd']:.4f} (published {PUBLISHED['cora']})")
    names = ("recloom", "recloom-graph", "torch", "torch-geometric", "lightning")
    report = {
        "what": "test accuracy over seeds, at the epoch of the best validation accuracy",
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in names},
        "cora": cora,
    }
    args.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
