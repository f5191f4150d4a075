"""What the order of equal times is worth: the same data in the order of the file and by the rule, the same models.

    python benchmarks/ties.py       writes ties.json beside this file; interrupted, it goes on where it stopped

ml-latest-small is sorted by user and item; a third of its rows share user and time with another. NDCG@10 and HR@10 with
95 % intervals under leave-last-out, prepared with `--ties file` and with the rule; and under a split by time, where
requests with a history (`known`) and without one (`new`) stand apart. SASRec by configs/ml-latest-small/sasrec.yaml,
the others by their defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
MODELS = ("Popularity", "ItemKNN", "EASE", "SASRec")
CASES = (("file", "last"), ("auto", "last"), ("file", "time"), ("auto", "time"))
"""Who orders equal times, and how the data are split."""
METRICS = ["ndcg@10", "hit@10"]


def measure(data: Path, model: str, split: str, seed: int, folder: Path) -> dict[str, Any]:
    """Fit and test one model; every metric as mean, interval and number of requests."""
    import recloom
    import yaml

    config: dict[str, Any] = {"trainer": {"accelerator": "cpu", "enable_progress_bar": False}}
    if model == "SASRec":
        given = yaml.safe_load((HERE.parent / "configs/ml-latest-small/sasrec.yaml").read_text("utf-8"))
        config["trainer"] |= given["trainer"]
        config |= {
            "early_stopping": given["early_stopping"],
            "model": {"lr": given["model"]["lr"]},
            "data": {"windows": given["data"]["windows"]},
        }
    config["model"] = {"metrics": METRICS} | config.get("model", {})
    config["data"] = {"split": {"strategy": split}} | config.get("data", {})
    found = recloom.fit(data, model, seed=seed, run=folder, config=config).test()
    record = json.loads((folder / "run.json").read_text("utf-8"))
    return {
        "metrics": {
            name: [value.mean, value.low, value.high, value.n] for name, value in found.metrics.items()
        },
        "equal_times": found.protocol.equal_times.model_dump(),
        "epochs": record["epochs"],
        "steps": record["steps"],
    }


def main() -> None:
    """Measure what is not measured yet, and write all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="ml-latest-small", help="a folder of RECLOOM_DATA in MovieLens' layout"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from recloom.data.prepare import prepare_source

    out = HERE / "ties.json"
    kept = json.loads(out.read_text("utf-8")) if out.is_file() else {}
    results = kept.get("results", {})
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for ties in ("file", "auto"):
            prepare_source("movielens", root / ties, SHARED / args.data, ties=ties)
        for model in MODELS:
            for ties, split in CASES:
                key = f"{split}, {'rule' if ties == 'auto' else 'file'}, {model}"
                if key in results:
                    continue
                results[key] = measure(root / ties, model, split, args.seed, root / f"{ties}-{split}-{model}")
                facts = {"data": args.data, "seed": args.seed, "date": date.today().isoformat()}
                out.write_text(json.dumps({**facts, "results": results}, indent=2) + "\n", encoding="utf-8")
                mean, low, high, n = results[key]["metrics"]["ndcg@10"]
                print(f"{key:28} NDCG@10 {mean:.4f} [{low:.4f}, {high:.4f}] over {n:,} requests", flush=True)


if __name__ == "__main__":
    main()
