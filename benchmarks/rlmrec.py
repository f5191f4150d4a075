"""Does RLMRec help LightGCN on ml-1m, and would the texts of other films and users do as well?

    python benchmarks/rlmrec.py

LightGCN alone, and with RLMRec's Con and Gen losses over MiniLM vectors of (a) titles and genres and (b) profiles
that a large language model wrote; a user's text vector is the mean of those of the training films. In the shuffled
control everybody has the profile of somebody else. Leave-last-out, full catalogue, history masked, ties against
the model; each fit ends when NDCG@10 on validation has not risen for PATIENCE epochs. Batch, size and patience are
those of the authors' configurations, temperatures too. Every variant, controls too, has the best of three learning
rates and three weights by the mean of validation over the seeds; a best one at the end of its range is marked, since
one beyond it may be better. 171 fits for three seeds: interrupted, it goes on after the last whole epoch. `--seeds 0`
trains and reports these seeds, `--only` these variants. Writes rlmrec.json here.
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
MODEL = {"dim": 32, "num_layers": 3}
FIT = {"batch_size": 4096, "max_epochs": 1000, "patience": 15}
RATES = (3e-4, 1e-3, 3e-3)
WEIGHTS = {None: (0.0,), "RLMRecCon": (1e-3, 1e-2, 1e-1), "RLMRecGen": (1e-2, 1e-1, 1.0)}
"""Around the authors' learning rate and weights (.01 and .1)."""
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
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    given = parser.parse_args()
    data = item_inputs.prepare("ml-1m")
    titles(data)
    for seed in given.seeds:
        for variant in given.only:
            for setting in settings(variant):
                train(data, variant, setting, seed)
    missing = [
        run.name
        for variant in VARIANTS
        for setting in settings(variant)
        for seed in given.seeds
        if not ((run := folder_of(variant, setting, seed)) / "metrics.json").is_file()
    ]
    if missing:
        print(f"no verdict yet: {len(missing)} runs are not tested, such as {missing[0]}")
        return
    report(given.seeds)


def settings(variant: str) -> list[tuple[float, float]]:
    """(learning rate, weight) that a variant is tried with."""
    return [(lr, weight) for lr in RATES for weight in WEIGHTS[VARIANTS[variant][0]]]


def titles(data: Path) -> None:
    """Vectors of titles with genres, made once."""
    from recloom_feature.encoders.command import embed
    from recloom_feature.encoders.sentence_transformers import SentenceTransformers

    target = data / TEXTS["title"]
    if not target.is_file():
        encoder = SentenceTransformers(**packaged_minilm.encoder()["init_args"])
        embed(data, encoder=encoder, columns=["title", "genres"], out=target)


def chosen(variant: str, seeds: Any) -> tuple[float, float]:
    """The setting of the best mean on validation over the seeds."""
    return max(settings(variant), key=lambda setting: valid(variant, setting, seeds))


def valid(variant: str, setting: tuple[float, float], seeds: Any) -> float:
    from recloom.runs import load

    found = [load(folder_of(variant, setting, seed)).record.best or 0.0 for seed in seeds]
    return sum(found) / len(found)


def at_an_end(variant: str, setting: tuple[float, float]) -> list[str]:
    """What of a chosen setting is the smallest or the largest that was tried."""
    tried = {"lr": RATES, "weight": WEIGHTS[VARIANTS[variant][0]]}
    ends = {name: {min(values), max(values)} for name, values in tried.items() if len(values) > 1}
    return [name for name, value in zip(tried, setting, strict=True) if value in ends.get(name, ())]


def train(data: Path, variant: str, setting: tuple[float, float], seed: int) -> None:
    """Fit and test one variant with one seed, unless it was done; a fit that was interrupted goes on."""
    import recloom
    from recloom.fitting.fit import run_command
    from recloom.run_folder import finished

    run, (lr, weight) = folder_of(variant, setting, seed), setting
    if finished(run) and (run / "metrics.json").is_file():
        return
    loss, text, shuffled = VARIANTS[variant]
    config: dict[str, Any] = {
        "trainer": {"enable_progress_bar": False},
        "model": {"metrics": METRICS, "lr": lr},
        "data": {"batch_size": FIT["batch_size"]} | ({"vectors": str(data / TEXTS[text])} if text else {}),
        "early_stopping": {"patience": FIT["patience"], "patience_steps": 0},
        "overwrite": True,
    }
    made = {"class_path": loss, "init_args": {"shuffled": shuffled, "weight": weight}} if loss else None
    if not finished(run) and (run / "checkpoints" / "last.ckpt").is_file():
        run_command(["fit", "--run", str(run), "--ckpt_path", "last", "--trainer.enable_progress_bar=false"])
    elif not finished(run):
        recloom.fit(
            data,
            "LightGCN",
            MODEL,
            loss=made,
            run=run,
            seed=seed,
            max_epochs=FIT["max_epochs"],
            config=config,
        )
    found = recloom.load(run).test()
    print(
        variant,
        setting,
        seed,
        {name: round(found.metrics[name].mean or 0.0, 4) for name in REPORTED},
        flush=True,
    )


def report(seeds: Any) -> None:
    """What came of the seeds so far."""
    from recloom.evaluation import read_per_user
    from recloom.runs import load

    best = {variant: chosen(variant, seeds) for variant in VARIANTS}
    folders = {variant: [folder_of(variant, one, seed) for seed in seeds] for variant, one in best.items()}
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
        "selection": "fits ended by NDCG@10 on validation; rate and weight chosen by its mean over the seeds",
        "settings": {
            "model": MODEL,
            "fit": FIT,
            "rates": RATES,
            "weights": {loss: weights for loss, weights in WEIGHTS.items() if loss},
        },
        "rows": dict(rows(tables, REPORTED)),
        "chosen": {variant: dict(zip(("lr", "weight"), one, strict=True)) for variant, one in best.items()},
        "chosen at an end of its range": {
            variant: ends for variant, one in best.items() if (ends := at_an_end(variant, one))
        },
        "validation of all settings": {
            variant: [[*setting, valid(variant, setting, seeds)] for setting in settings(variant)]
            for variant in VARIANTS
        },
        "epochs": {variant: [record.epochs for record in found] for variant, found in records.items()},
        "valid ndcg@10": {variant: [record.best for record in found] for variant, found in records.items()},
        "paired": list(differences(tables, pairs, REPORTED)),
        "seeds": list(seeds),
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {one: version(one) for one in ("recloom", "recloom-graph", "torch", "lightning")},
    }
    (HERE / "rlmrec.json").write_text(json.dumps(result, indent=2) + "\n")


def folder_of(variant: str, setting: tuple[float, float], seed: int) -> Path:
    lr, weight = setting
    return RUNS / f"{variant.replace(' ', '_')}-lr{lr:g}-w{weight:g}-{seed}"


if __name__ == "__main__":
    main()
