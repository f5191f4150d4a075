"""LightGCN on Gowalla, LightGCN's own split, beside its published figures; with the learning curve.

    python benchmarks/gowalla.py --data ../shared/data --minutes 90      (needs matplotlib)

The split has no validation part, so nothing is chosen: the settings were fixed before the first run. Size, layers,
penalty and sampling by user are LightGCN's (64, 3, 1e-4); unlike there the batch is 8,192 and the learning rate 4e-3
where it has 2,048 and 1e-3, AdamW's second beta is .98 where it has .999, and the epochs are as many as the minutes
allow where it has 1,000. The test part is measured after
every CHUNK epochs to draw the curve; the figure to compare is that of the last epoch within the minutes, whatever
the curve says. Killed, it goes on from its last epoch; the minutes count training and testing of all its processes.
Writes gowalla.json and gowalla.svg here.
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

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
FOLDER, RUN = HERE / ".data" / "gowalla", HERE / ".data" / "runs" / "gowalla-lightgcn"
TARGET = HERE / "gowalla.json"
PUBLISHED = {"recall@20": 0.1824, "ndcg@20": 0.1547}
CHUNK, SEED = 20, 0
SETTINGS = {
    "model.recommender.dim": 64,
    "model.recommender.num_layers": 3,
    "model.lr": 4e-3,
    "model.loss": "BPR",
    "model.loss.l2": 1e-4,
    "data.batch_size": 8192,
    "data.pairs": "user",
    "seed_everything": SEED,
}


def prepare(source: Path) -> None:
    """The dataset with the split of its source, made once; a user's training items come first."""
    from recloom.data.prepare import prepare_source

    if not (FOLDER / "splits" / "source" / "split.json").is_file():
        prepare_source("sequences", FOLDER, source, name="gowalla", keep_split=True, overwrite=True)


def go_on(epochs: int) -> None:
    """Train until so many epochs are done, from the last checkpoint where there is one."""
    from recloom.fitting import run_command

    words = [
        "fit",
        "--model",
        "LightGCN",
        "--data",
        str(FOLDER),
    ]
    for name, value in SETTINGS.items():
        words += [f"--{name}", str(value)]
    words += [
        "--run",
        str(RUN),
        "--trainer.max_epochs",
        str(epochs),
        "--trainer.enable_progress_bar",
        "false",
    ]
    if (RUN / "checkpoints" / "last.ckpt").is_file():
        words += ["--ckpt_path", "last"]
    run_command(words)


def tested() -> dict[str, Any]:
    """Recall@20 and NDCG@20 of all users with test items, with intervals."""
    from recloom.runs import load

    run = load(RUN)
    run.module.metrics = list(PUBLISHED)
    found = run.test().metrics
    return {
        name: {key: round(getattr(found[name], key), 5) for key in ("mean", "low", "high")}
        for name in PUBLISHED
    }


def draw(curve: list[dict[str, Any]]) -> None:
    """The learning curve beside the published figures."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for one, (name, goal) in zip(axes, PUBLISHED.items(), strict=True):
        one.plot([point["epoch"] for point in curve], [point[name]["mean"] for point in curve], marker=".")
        one.axhline(goal, linestyle="--", color="grey")
        one.annotate(f"published {goal:.4f}", (curve[0]["epoch"], goal), (0, -12), textcoords="offset points")
        one.set(xlabel="epoch", title=f"{name} on the test part")
    figure.savefig(HERE / "gowalla.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--minutes", type=float, default=90.0)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    prepare(given.data / "gowalla")
    record = json.loads(TARGET.read_text()) if TARGET.exists() else {"curve": []}
    spent = record["curve"][-1]["minutes"] if record["curve"] else 0.0
    longest = 0.0
    while spent + longest < given.minutes:
        begun, epoch = time.time(), (record["curve"][-1]["epoch"] if record["curve"] else 0) + CHUNK
        go_on(epoch)
        point = {"epoch": epoch, **tested()}
        took = (time.time() - begun) / 60
        spent, longest = spent + took, max(longest, took)
        record["curve"].append(point | {"minutes": round(spent, 2)})
        print(json.dumps(record["curve"][-1]), flush=True)
        record |= {
            "what": __doc__.strip().splitlines()[0],
            "protocol": "LightGCN's 80/20 split, all items ranked, training items masked, ties against the model, "
            "mean over users with test items; settings fixed beforehand, the last epoch counts",
            "published": PUBLISHED
            | {"source": "LightGCN-PyTorch, 3 layers, 1,000 epochs of batches of 2,048"},
            "last": {name: record["curve"][-1][name] for name in PUBLISHED},
            "settings": SETTINGS,
            "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads()},
            "versions": {name: version(name) for name in ("recloom", "recloom-graph", "torch", "lightning")},
            "date": date.today().isoformat(),
        }
        TARGET.write_text(json.dumps(record, indent=2) + "\n")
        draw(record["curve"])


if __name__ == "__main__":
    main()
