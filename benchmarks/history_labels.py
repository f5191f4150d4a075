"""Click models with and without the labels of their histories, beside two counts, on ml-latest-small and ml-100k.

    python benchmarks/history_labels.py               writes history_labels.json beside this file

A rating of 4 or more is positive. A tenth of each user's ratings, drawn at random, is validation and a fifth is test;
the history is the last ratings of the rest, which may be later than the one that is asked for: all variants see the
same. A split by time leaves few test users with a history, and one by users one row each, which has no GAUC. `labels`
reads the rating of each item of the history, `without` treats all alike.

LikeShare is the share of liked items in the history, the same for every candidate: its GAUC is .5 by definition.
TitleRate is the smoothed like rate of an item in training. KAR has hashed n-grams of title and genres as its item
vectors, and their mean over the first ratings that are in no training row as its user vectors, over DIN: no language
model, since the question is what the rating of a history item adds.

One setting, seed 0, early stopping on the validation's AUC. Intervals are 95 % by bootstrap over the users of the test
part. One run a side: a difference is one between two trained runs. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
WORK = HERE / ".data" / "history_labels"
TARGET = HERE / "history_labels.json"
DATASETS = ("ml-100k", "ml-latest-small")
COUNTS = ("LikeShare", "TitleRate")
MODELS = ("DIN", "DCNv2", "DeepFM", "KAR")
FIRST = 30
METRICS = ["auc", "gauc", "log_loss"]
SMALL = {"dim": 16, "max_len": 20, "hidden": (64, 32)}
EPOCHS = 6


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    found = json.loads(TARGET.read_text()) if TARGET.is_file() else {"settings": settings(), "runs": {}}
    for name in DATASETS:
        folder = prepared(name)
        tries = [(model, None) for model in COUNTS] + [(m, on) for m in MODELS for on in (False, True)]
        for model, labels in tries:
            key = " ".join([name, model, *([] if labels is None else ["labels" if labels else "without"])])
            if key not in found["runs"]:
                found["runs"][key] = measured(folder, model, labels, key)
                TARGET.write_text(json.dumps(found, indent=2) + "\n")
                print(key, found["runs"][key], flush=True)


def settings() -> dict[str, Any]:
    return {
        "positive": 4,
        "split": SPLIT,
        "options": SMALL,
        "epochs": EPOCHS,
        "seed": 0,
        "known_first of KAR": FIRST,
    }


SPLIT = {"strategy": "random", "valid": 0.1, "test": 0.2}


def prepared(name: str) -> Path:
    """The prepared dataset, made once."""
    from recloom.cli.main import main as recloom

    folder = WORK / name
    if not (folder / "dataset.json").is_file():
        recloom(["data", "prepare", "movielens", "--path", str(SHARED / name), "--out", str(folder)])
    return folder


def measured(folder: Path, model: str, labels: bool | None, key: str) -> dict[str, Any]:
    """Train and test one model: mean and interval of each metric."""
    import recloom

    start = time.time()
    options: dict[str, Any] = {} if labels is None else {**SMALL, "events": labels}
    data: dict[str, Any] = {"split": SPLIT, "candidates": "rated", "seen": "kept", "positive": 4.0}
    data["batch_size"] = 1024
    if model == "KAR":
        options = {
            "backbone": {"class_path": "DIN", "init_args": options},
            "shared": 1,
            "dedicated": 1,
            "hidden": 32,
        }
        data |= vectors(folder)
    metrics = ["auc"] if labels is None else METRICS
    config = {"data": data, "model": {"metrics": METRICS, "lr": 1e-3}}
    run = recloom.fit(
        folder, model, options, run=WORK / key.replace(" ", "-"), max_epochs=EPOCHS, config=config
    )
    results = run.test()
    values = {
        name: [value.mean, value.low, value.high]
        for name, value in results.metrics.items()
        if name in (*metrics, "gauc")
    }
    return values | {"requests": results.protocol.users, "seconds": round(time.time() - start)}


def vectors(folder: Path) -> dict[str, Any]:
    """Options that give KAR its vectors, of texts without a language model."""
    import numpy as np
    import polars as pl
    from recloom.data import knowledge_prefix
    from recloom.data.batches import RecDataModule
    from recloom.llm import HashingNgrams
    from recloom.schemas import SplitSpec

    module = RecDataModule(str(folder), SplitSpec(**SPLIT))  # type: ignore[arg-type]
    module.setup()
    catalog, train = module.catalog, module.train
    encoder = HashingNgrams()
    of_items = np.zeros((catalog.num_items + 1, encoder.dim), np.float32)
    of_items[1:] = encoder.encode(catalog.texts(("title", "genres")))
    count = knowledge_prefix(train.lengths, FIRST).tolist()
    starts = train.starts.tolist()
    of_users = [
        of_items[train.items[start : start + n]].mean(0) if n else np.zeros(encoder.dim, np.float32)
        for start, n in zip(starts[1:], count[1:], strict=True)
    ]
    files = {"vectors": (catalog.items, of_items[1:]), "user_vectors": (catalog.users, np.stack(of_users))}
    given: dict[str, Any] = {"known_first": FIRST}
    for option, (table, found) in files.items():
        path = folder / f"{option}.parquet"
        pl.DataFrame({table.columns[0]: table[table.columns[0]], "vector": found}).with_columns(
            pl.col("vector").cast(pl.List(pl.Float32))
        ).write_parquet(path)
        given[option] = str(path)
    return given


if __name__ == "__main__":
    main()
