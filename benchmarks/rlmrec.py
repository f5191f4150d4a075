"""Does RLMRec help LightGCN on ml-1m, and would the texts of other films and users do as well?

    python benchmarks/rlmrec.py

LightGCN alone, and with RLMRec's Con and Gen losses over MiniLM vectors of (a) titles and genres and (b) profiles
that a large language model wrote; a user's text vector is the mean of those of the training films. In the shuffled
control everybody has the profile of somebody else. Leave-last-out, full catalogue, history masked, ties against
the model; five seeds, each fit stopped by NDCG@10 on validation. Every variant, controls too, has the better of
two learning rates by that, with seed 0. Weights and temperatures are the defaults of the authors' code; size, depth
and batch were chosen for time on LightGCN alone. Interrupted, it goes on where it stopped. `--seeds 0 1` trains and
reports these seeds, the first of which must be 0. Writes rlmrec.json here.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import item_inputs
import packaged_minilm
from paired import differences, rows

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
RUNS = HERE / ".data" / "rlmrec"
METRICS = ["ndcg@10", "recall@10", "recall@20"]
REPORTED = ("ndcg@10", "recall@20")
MODEL = {"dim": 32, "num_layers": 2}
FIT = {"batch_size": 65536, "max_epochs": 100, "patience": 5}
RATES = (3e-2, 1e-2)
TEXTS = {"title": "title-genres.parquet", "profile": "profile.parquet"}
VARIANTS: dict[str, tuple[str | None, str | None, bool]] = {
    "LightGCN": (None, None, False),
    **{
        f"{loss.removeprefix('RLMRec')} {text}": (loss, text.removeprefix("shuffled "), "shuffled" in text)
        for text in ("profile", "title", "shuffled profile")
        for loss in ("RLMRecGen", "RLMRecCon")
    },
}
"""Variant to loss, text and whether it is the control."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=list(range(5)))
    given = parser.parse_args()
    data = item_inputs.prepare("ml-1m")
    titles(data)
    for seed in given.seeds:
        for variant in VARIANTS:
            for lr in RATES if seed == 0 else [chosen(variant)]:
                train(data, variant, lr, seed)
        report(given.seeds[: given.seeds.index(seed) + 1])


def titles(data: Path) -> None:
    """Vectors of titles with genres, made once."""
    from recloom_feature.encoders.command import embed
    from recloom_feature.encoders.sentence_transformers import SentenceTransformers

    target = data / TEXTS["title"]
    if not target.is_file():
        encoder = SentenceTransformers(**packaged_minilm.encoder()["init_args"])
        embed(data, encoder=encoder, columns=["title", "genres"], out=target)


def chosen(variant: str) -> float:
    """The learning rate whose run with seed 0 was best on validation."""
    from recloom.runs import load

    return max(RATES, key=lambda lr: load(folder_of(variant, lr, 0)).record.best or 0.0)


def train(data: Path, variant: str, lr: float, seed: int) -> None:
    """Fit and test one variant with one seed, unless it was done."""
    import recloom
    from recloom.run_folder import finished

    run = folder_of(variant, lr, seed)
    if finished(run) and (run / "metrics.json").is_file():
        return
    loss, text, shuffled = VARIANTS[variant]
    config: dict[str, Any] = {
        "trainer": {"enable_progress_bar": False},
        "model": {"metrics": METRICS, "lr": lr},
        "data": {"batch_size": FIT["batch_size"]} | ({"vectors": str(data / TEXTS[text])} if text else {}),
        "early_stopping": {"patience": FIT["patience"]},
        "overwrite": True,
    }
    made = {"class_path": loss, "init_args": {"shuffled": shuffled}} if loss else None
    found = recloom.fit(
        data, "LightGCN", MODEL, loss=made, run=run, seed=seed, max_epochs=FIT["max_epochs"], config=config
    ).test()
    print(
        variant, lr, seed, {name: round(found.metrics[name].mean or 0.0, 4) for name in REPORTED}, flush=True
    )


def report(seeds: Any) -> None:
    """What came of the seeds so far."""
    from recloom.evaluation import read_per_user
    from recloom.runs import load

    rates = {variant: chosen(variant) for variant in VARIANTS}
    folders = {variant: [folder_of(variant, lr, seed) for seed in seeds] for variant, lr in rates.items()}
    tables = {variant: [read_per_user(folder) for folder in found] for variant, found in folders.items()}
    pairs = [(one, "LightGCN") for one in VARIANTS if one != "LightGCN"]
    pairs += [
        (f"{loss} profile", f"{loss} {other}")
        for loss in ("Con", "Gen")
        for other in ("shuffled profile", "title")
    ]
    records = {variant: [load(folder).record for folder in found] for variant, found in folders.items()}
    result = {
        "what": (__doc__ or "").splitlines()[0],
        "protocol": "leave-last-out, full catalogue, history masked, ties against the model",
        "selection": "each fit stopped by validation NDCG@10, and by it one of two learning rates with seed 0",
        "settings": {"model": MODEL, "fit": FIT, "losses": "defaults of RLMRecCon and RLMRecGen"},
        "rows": dict(rows(tables, REPORTED)),
        "lr": rates,
        "epochs": {variant: [record.epochs for record in found] for variant, found in records.items()},
        "valid ndcg@10": {variant: [record.best for record in found] for variant, found in records.items()},
        "paired": list(differences(tables, pairs, REPORTED)),
        "seeds": list(seeds),
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {one: version(one) for one in ("recloom", "recloom-graph", "torch", "lightning")},
    }
    (HERE / "rlmrec.json").write_text(json.dumps(result, indent=2) + "\n")


def folder_of(variant: str, lr: float, seed: int) -> Path:
    return RUNS / f"{variant.replace(' ', '_')}-lr{lr:g}-{seed}"


if __name__ == "__main__":
    main()
