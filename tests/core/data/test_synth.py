"""The planted structure is there, and it can be learned in steps: popularity, co-occurrence, sequence."""

import time

import numpy as np
import polars as pl
import pytest
from recloom.data.prepare.check import check_path
from recloom.data.prepare.dataset import write_synthetic
from recloom.data.split import assign
from recloom.data.synth.generator import World, synthesise
from recloom.data.synth.texts import vocabulary
from recloom.errors import DataError
from recloom.schemas import SplitSpec

DOMAINS = ("movies", "news", "shop", "jobs")


@pytest.fixture(scope="module")
def movies():
    return synthesise(World())


def test_the_default_is_the_demo(movies):
    data, _, parameters = movies
    assert (data.users.height, data.items.height) == (2000, 800)
    assert 50_000 < data.interactions.height < 70_000
    assert data.users["num_interactions"].min() >= 4
    assert data.time == "seconds"
    assert set(data.interactions["value"].unique()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert parameters["follow"] == 0.4


def test_equal_seeds_give_equal_data(tmp_path):
    cards = [
        write_synthetic(*_reordered(synthesise(World(users=100, items=60, seed=seed)), tmp_path / name))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert cards[0].data_hash() == cards[1].data_hash() != cards[2].data_hash()
    files = sorted(path.name for path in (tmp_path / "a" / "truth").iterdir())
    assert files == [
        "cold_items.parquet", "item_topics.parquet", "parameters.json", "popularity.parquet",
        "successors.parquet", "user_mixtures.parquet",
    ]  # fmt: skip
    for file in files:
        assert (tmp_path / "a" / "truth" / file).read_bytes() == (
            tmp_path / "b" / "truth" / file
        ).read_bytes()


def _reordered(made, out):
    data, truth, parameters = made
    return data, out, truth, parameters


@pytest.mark.parametrize("like", DOMAINS)
def test_titles_speak_of_their_topic(like, tmp_path):
    data, truth, parameters = synthesise(World(like=like, users=60, items=400))
    titles = data.items.join(truth["item_topics.parquet"], on="item_id")
    assert titles["title"].n_unique() == 400
    words = vocabulary(like)["topics"]
    for title, description, topic in titles.select("title", "description", "topic").iter_rows():
        assert any(noun in title for noun in words[topic]["noun"]), title
        assert any(noun.lower() in description for noun in words[topic]["noun"]), description
        assert "{" not in title + description
    assert (titles["category"] == titles["topic"]).all()
    write_synthetic(data, tmp_path / like, truth, parameters)
    assert not [finding for finding in check_path(tmp_path / like) if finding.state == "bad"]


def test_words_suffice_for_many_items():
    data, _, _ = synthesise(World(users=5, items=30_000))
    assert data.items["title"].n_unique() == 30_000


def test_nobody_meets_an_item_twice_and_popularity_is_a_power_law(movies):
    data, truth, _ = movies
    assert data.interactions.select(pl.struct("user_id", "item_id").is_duplicated().any()).item() is False
    counts = (
        data.interactions["item_id"].value_counts(name="n").join(truth["popularity.parquet"], on="item_id")
    )
    ranks = counts.select(pl.corr("n", "weight", method="spearman")).item()
    top = counts["n"].sort(descending=True)
    assert ranks > 0.6
    assert top.head(80).sum() > 0.25 * top.sum()


def test_cold_items_come_late(movies):
    data, truth, parameters = movies
    cold = data.interactions.join(truth["cold_items.parquet"], on="item_id")
    late = parameters["start"] + 0.9 * parameters["days"] * 86_400
    assert cold.height > 50
    assert cold["timestamp"].min() >= late - 1
    assert truth["cold_items.parquet"].height == 40


def test_successors_follow_as_often_as_said(movies):
    data, truth, parameters = movies
    pairs = data.interactions.with_columns(
        pl.col("item_id").shift(-1).over("user_id").alias("next")
    ).drop_nulls()
    follows = pairs.join(truth["successors.parquet"], on="item_id")
    rate = follows.select((pl.col("next") == pl.col("successor")).mean()).item()
    assert 0.75 * parameters["follow"] < rate < 1.1 * parameters["follow"]


def test_interests_drift(movies):
    data, truth, _ = movies
    topics = truth["item_topics.parquet"]
    rows = data.interactions.join(topics, on="item_id", maintain_order="left")
    late = rows["timestamp"] > rows["timestamp"].median()
    mixtures = truth["user_mixtures.parquet"]
    gains = [
        _likelihood(rows.filter(half), mixtures, "late") - _likelihood(rows.filter(half), mixtures, "early")
        for half in (~late, late)
    ]
    assert gains[1] > gains[0] + 0.02


def _likelihood(rows, mixtures, time):
    """Mean probability of the topics met, under the early or late mixture."""
    long = mixtures.unpivot(index="user_id", variable_name="name", value_name="p")
    names = rows.with_columns(pl.format("{}_{}", pl.lit(time), "topic").alias("name"))
    return names.join(long, on=["user_id", "name"])["p"].mean()


def test_sequence_beats_cooccurrence_beats_popularity(movies):
    """Hits among 10 of 800 for each user's last item, seen items excluded: three plain models in NumPy."""
    data, _, _ = movies
    frame = data.interactions.with_columns(assign(data.interactions, SplitSpec()).alias("part"))
    item = pl.Enum(data.items["item_id"])
    users = frame["user_id"].rle_id().to_numpy()
    items = frame["item_id"].cast(item).to_physical().to_numpy().astype(int)
    test = (frame["part"] == "test").to_numpy()
    seen = np.zeros((users.max() + 1, 800))
    seen[users[~test], items[~test]] = 1
    last = np.flatnonzero(test) - 1
    steps = np.zeros((800, 800))
    np.add.at(steps, (items[:-1], items[1:]), (users[:-1] == users[1:]) & ~test[1:])
    gram = seen.T @ seen
    inverse = np.linalg.inv(gram + 100 * np.eye(800))
    ease = -inverse / np.diag(inverse)
    np.fill_diagonal(ease, 0)
    target = items[test]
    scores = {
        "popularity": np.tile(seen.sum(0), (len(target), 1)),
        "ease": seen[users[test]] @ ease,
        "markov": seen[users[test]] @ ease
        + 2 * steps[items[last]] / np.maximum(steps[items[last]].sum(1, keepdims=True), 1),
    }
    hits = {name: _hits(table - 1e9 * seen[users[test]], target) for name, table in scores.items()}
    assert hits["popularity"] * 1.5 < hits["ease"]
    assert hits["ease"] * 1.5 < hits["markov"]
    assert hits["popularity"] > 10 / 800


def _hits(scores, target):
    own = scores[np.arange(len(target)), target]
    return float(((scores > own[:, None]).sum(1) < 10).mean())


def test_news_come_with_impressions():
    data, _, _ = synthesise(World(like="news", users=200, items=100))
    shown = data.impressions
    assert shown["labels"].list.sum().unique().to_list() == [1]
    assert shown.select(pl.col("candidates").list.n_unique().min()).item() == 10
    clicked = shown.select(
        "user_id", "timestamp", pl.col("candidates").list.get(pl.col("labels").list.arg_max())
    )
    found = clicked.join(data.interactions, left_on=["user_id", "timestamp", "candidates"],
                         right_on=["user_id", "timestamp", "item_id"], how="semi")  # fmt: skip
    assert found.height == shown.height
    places = shown["labels"].list.arg_max().value_counts()["count"]
    assert places.max() < 1.4 * places.mean()
    one = shown.filter(user_id="u007").row(2, named=True)
    assert one["history"] == data.interactions.filter(user_id="u007")["item_id"].to_list()[:4]


def test_it_is_fast():
    began = time.process_time()
    synthesise(World(users=1000, items=500))
    assert time.process_time() - began < 2


def test_too_small_a_world_is_refused():
    with pytest.raises(DataError, match="--users must be at least 1 and --items at least 50; found 10 and 5"):
        synthesise(World(users=10, items=5))
