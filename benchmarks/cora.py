"""Graph convolutions over ten seeds: GCN on Cora, whose figure is published, and invented graphs to be classified.

    python benchmarks/cora.py --data ../shared/data

Trained and tested through `recloom fit` and `recloom test`, at the epoch of the best validation accuracy; Cora with the
standard split of Planetoid. The class of an invented graph shows in its edges and in nothing else of it; the same
network without them is the control. Writes cora.json here.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recloom.fitting import run_command
from recloom_graph.property.two_colour_graphs import write

PUBLISHED = {"cora": 0.815}
"""Test accuracy of GCN: Kipf and Welling, ICLR 2017, table 2, the mean of 100 runs."""
COLOURS = ["--model.dim", "32", "--model.num_layers", "2", "--model.dropout", "0", "--model.lr", "0.01"]
COLOURS += ["--trainer.max_epochs", "30"]
CONTROL_SEEDS = 3
QUIET = ["--trainer.enable_progress_bar=false"]


def measured(words: list[str], run: Path, seed: int) -> dict[str, Any]:
    """One fit and its test."""
    run_command(["fit", *words, "--run", str(run), f"--seed_everything={seed}", *QUIET])
    run_command(["test", str(run)])
    results: dict[str, Any] = json.loads((run / "metrics.json").read_text("utf-8"))
    return results


def over_seeds(words: list[str], folder: Path, seeds: int) -> dict[str, Any]:
    """Mean, deviation and every seed of one command."""
    runs = [measured(words, folder / f"{seed}", seed) for seed in range(seeds)]
    found = [one["metrics"]["accuracy"] for one in runs]
    return {
        "command": "recloom fit " + " ".join("FOLDER" if "/" in word else word for word in words),
        "mean": round(statistics.mean(found), 4),
        "sd": round(statistics.stdev(found), 4),
        "seeds": {
            one["seed"]: {"accuracy": round(one["metrics"]["accuracy"], 4), "epoch": one["epoch"]}
            for one in runs
        },
        "protocol": runs[0]["protocol"],
    }


def without_edges(folder: Path) -> Path:
    """Take the edges out of a set in OGB's layout: each graph keeps one, from its first node to itself."""
    raw = folder / "raw"
    graphs = len(gzip.decompress((raw / "num-node-list.csv.gz").read_bytes()).splitlines())
    (raw / "edge.csv.gz").write_bytes(gzip.compress(b"0,0\n" * graphs))
    (raw / "num-edge-list.csv.gz").write_bytes(gzip.compress(b"1\n" * graphs))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds planetoid/")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = ["--model", "NodeProperty", "--data", str(args.data / "planetoid"), "--data.name", "cora"]
        cora = over_seeds(words, Path(folder) / "cora", args.seeds) | {"published": PUBLISHED["cora"]}
        sets = {
            "two_colours": write(Path(folder) / "two_colours"),
            "two_colours_without_edges": without_edges(write(Path(folder) / "without_edges")),
        }
        found = {}
        for name, path in sets.items():
            words = ["--model", "GraphProperty", "--data", str(path), *COLOURS]
            seeds = args.seeds if name == "two_colours" else min(args.seeds, CONTROL_SEEDS)
            found[name] = over_seeds(words, Path(folder) / f"runs-{name}", seeds)
            print(f"{name}: {found[name]['mean']:.4f} +- {found[name]['sd']:.4f}")
        print(f"GCN on Cora: {cora['mean']:.4f} +- {cora['sd']:.4f} (published {PUBLISHED['cora']})")
    names = ("recloom", "recloom-graph", "torch", "torch-geometric", "lightning")
    report = {
        "what": "test accuracy over seeds, at the epoch of the best validation accuracy",
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in names},
        "cora": cora,
        **found,
    }
    args.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
