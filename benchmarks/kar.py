"""KAR over three click models on ml-latest-small: with knowledge vectors, without, and with shuffled ones.

    python benchmarks/kar.py                          writes kar.json beside this file

Click-through: a rating of 4 or more is positive; the newest 20 % of all ratings are test, the 10 % before them
validation. The first min((n + 1) // 2, 30) training ratings of a user are never rows to learn from, in no variant.

Knowledge of an item is what a large language model wrote about the film (the first two sentences of ml-1m's profiles,
matched by title), or title and genres where there is none. Knowledge of a user is a list of the titles liked and
disliked among those first ratings: a plain list, since no language model of quality is at hand offline. Both are
encoded by all-MiniLM-L6-v2. `shuffled` gives each item the vector of another one, and each user too: the control.

For each backbone and variant every setting of `tries` is tried with seed 0; the best AUC on validation is tested with
seeds 0, 1 and 2, each stopped early on validation. Test figures are never looked at while choosing. Intervals are 95 %
by bootstrap over the users of the test part, all their rows drawn together, and over the mean of the seeds;
differences are paired. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import packaged_minilm

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np  # noqa: E402

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
WORK = HERE / ".data" / "kar"
DATA = HERE / ".data" / "ml-latest-small"
TARGET = HERE / "kar.json"
BACKBONES = ("DeepFM", "DCNv2", "DIN")
VARIANTS = ("without", "knowledge", "shuffled")
RATES = (1e-3, 3e-4)
ACTIVATIONS: dict[str, tuple[str, ...]] = {"DIN": ("dice", "relu")}
"""Tried where a backbone's own is not the usual one: Dice keeps statistics of batches, which held-out rows may miss."""
SEEDS = (0, 1, 2)
FIRST = 30
SENTENCES = 2
SPLIT = {"strategy": "time", "valid": 0.1, "test": 0.2}
BACKBONE = {"dim": 16, "max_len": 20}
EXPERTS = {"shared": 2, "dedicated": 2}
PATIENCE = 3
DRAWS = 1000
METRICS = ("auc", "log_loss")


class Setting(NamedTuple):
    """What is chosen on validation."""

    rate: float
    activation: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="*", choices=BACKBONES, default=BACKBONES)
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    prepare()
    knowledge()
    for backbone in given.backbones:
        for variant in VARIANTS:
            measure(backbone, variant)
        write()


def prepare() -> None:
    """The prepared dataset, made once."""
    from recloom.cli.main import main as recloom

    if not (DATA / "dataset.json").is_file():
        raw = SHARED / "ml-latest-small"
        recloom(["data", "prepare", "movielens", "--path", str(raw), "--out", str(DATA)])


def knowledge() -> None:
    """Texts of items and users, their vectors, and the shuffled ones."""
    import polars as pl

    module = data("without", seed=0)
    module.setup()
    items, facts = item_texts(module.catalog)
    users, told = user_texts(module)
    items.write_parquet(WORK / "item-texts.parquet")
    users.write_parquet(WORK / "user-texts.parquet")
    (WORK / "knowledge.json").write_text(json.dumps(facts | told, indent=2) + "\n")
    for of in ("items", "users"):
        embed(of)
        table = pl.read_parquet(WORK / f"{of}.parquet")
        key = table.columns[0]
        other = np.random.default_rng(0).permutation(len(table))
        shuffled = pl.DataFrame({key: table[key], "vector": table["vector"].gather(other)})
        shuffled.write_parquet(WORK / f"{of}-shuffled.parquet")


def item_texts(catalog: Any) -> tuple[Any, dict[str, Any]]:
    """`item_id` and `text`, and how many films have a text of the language model."""
    import polars as pl

    folder = SHARED / "ml-1m"
    lines = (folder / "movies.dat").read_text("latin-1").splitlines()
    titles = {number: title for number, title, _ in (line.split("::") for line in lines)}
    written = json.loads((folder / "llm-item-profiles" / "llm_response_item.json").read_text("utf-8"))
    told = {number: text for number, text in written.items() if number in titles}
    named = sum(short(titles[number]) in plain(text) for number, text in told.items())
    by_title = {plain(titles[number]): text for number, text in told.items()}
    ours = catalog.items["title"].to_list()
    usual = catalog.texts(("title", "genres"))
    found = [by_title.get(plain(title)) for title in ours]
    texts = [opening(text) if text else other for text, other in zip(found, usual, strict=True)]
    facts = {
        "films": len(ours),
        "films with a text of the language model": sum(text is not None for text in found),
        "texts whose key is the film's id in movies.dat and which name its title": f"{named} of {len(written)}",
    }
    return pl.DataFrame({"item_id": catalog.items["item_id"], "text": texts}), facts


def opening(text: str) -> str:
    """The first SENTENCES sentences: the whole would take an hour to encode on a busy core."""
    return " ".join(re.split(r"(?<=[.!?])\s+(?=[A-Z\"])", text)[:SENTENCES])


def plain(title: str) -> str:
    """Lower case, letters and digits only."""
    return " ".join(re.findall(r"\w+", title.lower()))


def short(title: str) -> str:
    """The title without its year, and without `, The` at its end."""
    return plain(re.sub(r"(, (The|A|An))? \(\d{4}\)$", "", title))


def user_texts(module: Any) -> tuple[Any, dict[str, Any]]:
    """`user_id` and `text` from each user's first training ratings, and how many users have one."""
    import polars as pl
    import torch
    from recloom.data import knowledge_prefix

    train = module.train
    count = knowledge_prefix(train.lengths, FIRST)
    titles = [re.sub(r" \(\d{4}\)$", "", title) for title in module.catalog.items["title"].to_list()]
    ids = module.catalog.users["user_id"].to_list()
    rows = []
    for user in torch.nonzero(count)[:, 0].tolist():
        places = slice(int(train.starts[user]), int(train.starts[user] + count[user]))
        seen = [
            (titles[item - 1], value)
            for item, value in zip(train.items[places].tolist(), train.values[places].tolist(), strict=True)
        ]
        liked = "; ".join(title for title, value in seen if value >= 4)
        rest = "; ".join(title for title, value in seen if value < 4)
        rows.append((ids[user - 1], f"Films the user liked: {liked}. Films the user did not like: {rest}."))
    table = pl.DataFrame(rows, schema=["user_id", "text"], orient="row")
    test = module.parts["test"]
    held = test.lengths[train.lengths > 0].sum() / test.lengths.sum()
    return table, {
        "users": len(ids),
        "users with training ratings, hence a text": len(rows),
        "share of test rows whose user has one": round(float(held), 3),
        "source of user texts": "titles of the first training ratings, liked and not; no language model",
    }


def embed(of: str) -> None:
    from recloom.cli.main import main as recloom

    texts = WORK / f"{of.removesuffix('s')}-texts.parquet"
    recloom(
        ["embed", str(DATA), "--of", of, "--texts", str(texts), "--out", str(WORK / f"{of}.parquet"),
         "--encoder", "SentenceTransformers", "--encoder.model", str(packaged_minilm.folder())]
    )  # fmt: skip


def options(variant: str) -> dict[str, Any]:
    """Of the data module."""
    tail = {"without": None, "knowledge": "", "shuffled": "-shuffled"}[variant]
    given = {"split": SPLIT, "candidates": "rated", "seen": "kept", "positive": 4.0, "known_first": FIRST}
    given |= {"batch_size": 1024}
    if tail is not None:
        given |= {"vectors": f"{WORK}/items{tail}.parquet", "user_vectors": f"{WORK}/users{tail}.parquet"}
    return given


def data(variant: str, seed: int) -> Any:
    from recloom.data.batches import RecDataModule
    from recloom.schemas import SplitSpec

    return RecDataModule(str(DATA), **options(variant) | {"split": SplitSpec(**SPLIT), "seed": seed})


def measure(backbone: str, variant: str) -> None:
    """Choose the learning rate on validation, then test three seeds; each run is kept when it is done."""
    best, tried = chosen(backbone, variant)
    for seed in SEEDS:
        trained(backbone, variant, best, seed)
    print(backbone, variant, label(best), tried[best], flush=True)


def tries(backbone: str) -> list[Setting]:
    """Every setting that is tried."""
    return [Setting(rate, one) for one in ACTIVATIONS.get(backbone, ("relu",)) for rate in RATES]


def chosen(backbone: str, variant: str) -> tuple[Setting, dict[Setting, dict[str, float]]]:
    """The setting with the best AUC on validation, and what each gave there."""
    tried = {one: trained(backbone, variant, one, 0)["valid"] for one in tries(backbone)}
    return max(tried, key=lambda one: tried[one]["auc"]), tried


def kept(backbone: str, variant: str, setting: Setting, seed: int) -> Path:
    """Where the scores of a run lie."""
    return WORK / f"{backbone}-{variant}-{label(setting)}-{seed}.npz"


def label(setting: Setting) -> str:
    return f"lr {setting.rate:g}, {setting.activation}"


def trained(backbone: str, variant: str, setting: Setting, seed: int) -> dict[str, Any]:
    """One run: figures on validation, and scores of the test part in a file that nothing here reads."""
    file = kept(backbone, variant, setting, seed)
    if not file.is_file():
        begun = time.process_time()
        run = fit(backbone, variant, setting, seed)
        module = data(variant, seed)
        module.setup()
        valid, test = (scores(run, module, part) for part in ("valid", "test"))
        facts = {"valid": figures(valid), "cpu_seconds": round(time.process_time() - begun)}
        facts |= {"epochs": run.record.epochs}
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "wb") as out:
            np.savez(out, facts=json.dumps(facts), **test)
        temporary.replace(file)
        print(file.name, facts, flush=True)
    with np.load(file) as found:
        return json.loads(str(found["facts"]))


def fit(backbone: str, variant: str, setting: Setting, seed: int) -> Any:
    import tempfile

    import recloom

    config = {
        "trainer": {"enable_progress_bar": False},
        "early_stopping": {"patience": PATIENCE},
        "model": {"metrics": list(METRICS), "lr": setting.rate},
        "data": options(variant),
    }
    own = BACKBONE | {"activation": setting.activation}
    inner = {"class_path": backbone, "init_args": own}
    name, given = (backbone, own) if variant == "without" else ("KAR", EXPERTS | {"backbone": inner})
    return recloom.fit(
        DATA, name, given, run=tempfile.mkdtemp() + "/run", seed=seed, max_epochs=20, config=config
    )


def scores(run: Any, module: Any, part: str) -> dict[str, Any]:
    """Flat logits, labels and users of a part."""
    import torch

    found: dict[str, list[Any]] = {"scores": [], "labels": [], "users": []}
    with torch.inference_mode():
        for batch in module.requests(part):
            real = batch.candidates > 0
            found["scores"].append(run.module.rank(batch, mask_seen=False)[real])
            found["labels"].append(batch.labels[real])
            found["users"].append(batch.user[:, None].expand_as(real)[real])
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def figures(rows: dict[str, Any]) -> dict[str, float]:
    """AUC and log loss by core's own metrics."""
    import torch
    from recloom.metrics import functional

    given = torch.from_numpy(rows["scores"]), torch.from_numpy(rows["labels"])
    return {"auc": float(functional.auc(*given)), "log_loss": float(functional.log_loss(*given))}


def drawn(rows: dict[str, Any], weights: Any) -> Any:
    """(2, D) AUC and log loss under (D, users) weights of users."""
    import torch
    from recloom.metrics import bootstrap_weights as resampled

    given = [torch.from_numpy(rows[name]) for name in ("scores", "labels", "users")]
    counts = torch.from_numpy(weights).double()
    return np.stack([of_draws(*given)(counts).numpy() for of_draws in (resampled.auc, resampled.log_loss)])


def write() -> None:
    """Means over the seeds with intervals, and paired differences, of the backbones that are measured whole."""
    users = data("without", 0)
    users.setup()
    known = (users.train.lengths > 0).numpy()
    random = np.random.default_rng(0)
    held = np.flatnonzero(users.parts["test"].lengths.numpy())
    weights = np.zeros((DRAWS + 1, len(known)), np.int64)
    weights[0, held] = 1  # the test part itself
    for row in weights[1:]:
        np.add.at(row, random.choice(held, len(held)), 1)
    table: dict[str, Any] = {}
    draws: dict[tuple[str, str], dict[str, Any]] = {}
    for backbone in filter(complete, BACKBONES):
        for variant in VARIANTS:
            row, draws[backbone, variant] = summary(backbone, variant, weights, known)
            table.setdefault(backbone, {})[variant] = row
        for other in ("without", "shuffled"):
            table[backbone][f"knowledge minus {other}"] = {
                part: interval(draws[backbone, "knowledge"][part] - draws[backbone, other][part])
                for part in ("all rows", "rows of users with training ratings")
            }
    result = {
        "what": __doc__.strip().splitlines()[0],
        "protocol": {
            "split": SPLIT,
            "positive": "rating >= 4",
            "known_first": FIRST,
            "test users": len(held),
        },
        "selection": f"validation AUC with seed 0 over learning rates {list(RATES)}, and for DIN over Dice "
        f"and ReLU; early stopping on validation AUC with a patience of {PATIENCE}",
        "settings": {"backbone": BACKBONE, "experts": EXPERTS, "batch_size": 1024, "seeds": list(SEEDS)},
        "knowledge": json.loads((WORK / "knowledge.json").read_text()),
        "rows": table,
        "cpu_seconds": sum(
            json.loads(str(np.load(path)["facts"]))["cpu_seconds"] for path in WORK.glob("*.npz")
        ),
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("recloom", "recloom-feature", "torch", "numpy")},
    }
    TARGET.write_text(json.dumps(result, indent=2) + "\n")
    print(f"wrote {TARGET}")


def complete(backbone: str) -> bool:
    """Whether every run of a backbone is kept."""
    for variant in VARIANTS:
        if not all(kept(backbone, variant, one, 0).is_file() for one in tries(backbone)):
            return False
        best, _ = chosen(backbone, variant)
        if not all(kept(backbone, variant, best, seed).is_file() for seed in SEEDS):
            return False
    return True


def summary(backbone: str, variant: str, weights: Any, known: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of a variant, and its (2, D) draws averaged over the seeds."""
    best, tried = chosen(backbone, variant)
    each, sums = [], {"all rows": [], "rows of users with training ratings": []}
    for seed in SEEDS:
        with np.load(kept(backbone, variant, best, seed)) as file:
            rows = {name: file[name] for name in ("scores", "labels", "users")}
        each.append(figures(rows))
        warm = known[rows["users"]]
        sums["all rows"].append(drawn(rows, weights))
        part = {name: values[warm] for name, values in rows.items()}
        sums["rows of users with training ratings"].append(drawn(part, weights))
    means = {name: np.mean(values, 0) for name, values in sums.items()}
    row = {name: interval(values) for name, values in means.items()}
    row |= {
        "chosen": label(best),
        "valid": tried[best],
        "tried": {label(one): found for one, found in tried.items()},
    }
    return row | {"of each seed": each}, means


def interval(values: Any) -> dict[str, Any]:
    """The figure itself, which stands first, and the middle 95 % of the draws."""
    low, high = np.nanquantile(values[:, 1:], [0.025, 0.975], axis=1)
    return {name: {"mean": values[n, 0], "low": low[n], "high": high[n]} for n, name in enumerate(METRICS)}


if __name__ == "__main__":
    main()
