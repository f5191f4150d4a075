"""Splits by hand, ties, leakage, the k-core and what is written."""

import json

import numpy as np
import polars as pl
import pytest
from recloom.data.card import read_card
from recloom.data.prepare.dataset import write_synthetic
from recloom.data.split import (
    assign,
    cold_items,
    k_core,
    load_split,
    own_split,
    split_digest,
    split_rows,
    write_own_split,
    write_split,
)
from recloom.data.synth.generator import World, synthesise
from recloom.errors import DataError
from recloom.schemas import PARTS, SplitSpec

SHORT = {"train": "t", "valid": "v", "test": "x", "context": "c", None: "."}


def log(users, items=None, times=None):
    return pl.DataFrame({
        "user_id": list(users),
        "item_id": list(items or "abcdefghijklmnopqrstuvwxyz"[: len(users)]),
        "timestamp": list(times or range(len(users))),
    })  # fmt: skip


def parts(frame, time="seconds", ties="auto", **spec):
    return "".join(SHORT[part] for part in assign(frame, SplitSpec(**spec), time, ties).to_list())


def big(users=300, seed=0):
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(users), random.integers(1, 30, users))
    return pl.DataFrame({
        "user_id": owner.astype(str), "item_id": random.integers(0, 50, len(owner)).astype(str),
        "timestamp": random.integers(0, 40, len(owner)),
    })  # fmt: skip


def test_last_holds_out_the_last_two_of_users_with_three():
    assert parts(log("aaaabbcddd")) == "ttvxttttvx"


def test_last_takes_any_row_order_and_breaks_ties_as_it_is_told():
    assert parts(log("aaaa", times=[5, 5, 5, 5]), ties="file") == "ttvx"
    assert parts(log("abaaba", times=[9, 1, 2, 3, 1, 1]), ties="file") == "xttvtt"
    frame = log("aaaa", times=[5, 5, 5, 5])
    held_out = {
        tuple(rows["item_id"].to_list()[parts(rows).index(part)] for part in "vx")
        for rows in (frame, frame.reverse(), frame.sample(fraction=1, shuffle=True, seed=1))
    }
    assert len(held_out) == 1  # few ties: by the hash, whatever the order of rows


def test_time_cuts_all_users_at_one_moment():
    frame = log("abcabcabca")
    assert parts(frame, strategy="time", test=0.3, valid=0.2) == "tttttvvxxx"
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    part = assign(shuffled, SplitSpec(strategy="time", test=0.3, valid=0.2))
    latest = {name: shuffled.filter(part == name)["timestamp"] for name in ("train", "valid", "test")}
    assert latest["train"].max() < latest["valid"].min()
    assert latest["valid"].max() < latest["test"].min()


def test_time_keeps_equal_times_on_one_side():
    frame = log("abcabcabca", times=[0, 1, 2, 3, 4, 4, 4, 4, 8, 9])
    assert parts(frame, strategy="time", test=0.3, valid=0) == "ttttxxxxxx"
    assert parts(frame, strategy="time", test=0.2, valid=0.1) == "ttttvvvvxx"


def test_time_cold_start_rule_by_hand():
    """Items in time order a b a c d a b | e a f: e and f occur only after the cut."""
    frame = log("u" * 10, items="abacdabeaf")
    part = assign(frame, SplitSpec(strategy="time", test=0.3, valid=0))
    assert "".join(SHORT[one] for one in part) == "tttttttxxx"
    assert cold_items(frame, part).to_list() == ["e", "f"]


def test_time_leaks_nothing_in_random_data():
    frame = big()
    part = assign(frame, SplitSpec(strategy="time"))
    times = [frame.filter(part == name)["timestamp"] for name in ("train", "valid", "test")]
    assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()
    assert abs(len(times[2]) / len(frame) - 0.2) < 0.05


def test_time_needs_times():
    with pytest.raises(DataError, match=r"needs real times.*--strategy last"):
        parts(log("aaa"), time="order", strategy="time")


@pytest.mark.parametrize("strategy", ["time", "random", "users"])
def test_shares_must_leave_something(strategy):
    with pytest.raises(DataError, match=r"valid .0.5. and test .0.5. together leave nothing"):
        parts(log("aaa"), strategy=strategy, valid=0.5, test=0.5)


def test_random_gives_each_user_its_shares_and_keeps_one_in_train():
    frame = big()
    part = assign(frame, SplitSpec(strategy="random", valid=0.1, test=0.2))
    counts = (
        frame.with_columns(part)
        .group_by("user_id")
        .agg(
            pl.len().alias("n"),
            *((pl.col("part") == name).sum().alias(name) for name in ("train", "valid", "test")),
        )
    )
    assert counts["train"].min() >= 1
    assert (
        counts["test"] == np.minimum(np.rint(counts["n"].to_numpy() * 0.2), counts["n"].to_numpy() - 1)
    ).all()
    assert counts.filter(n=10)["valid"].to_list() == [1] * counts.filter(n=10).height
    assert parts(log("abb"), strategy="random", valid=0.4, test=0.5)[0] == "t"


def test_random_depends_on_the_seed_and_not_on_the_ids():
    frame = big()
    renamed = frame.with_columns(pl.col("user_id").str.replace("^", "user "), pl.col("item_id").str.reverse())
    first, again, other = (
        split_digest(assign(data, SplitSpec(strategy="random", seed=seed), ties="file"))
        for data, seed in ((frame, 1), (renamed, 1), (frame, 2))
    )
    assert first == again
    assert first != other


def test_users_are_held_out_whole_with_their_past_as_context():
    frame = big()
    table = frame.with_row_index("row").with_columns(
        assign(frame, SplitSpec(strategy="users", valid=0.1, test=0.2), ties="file")
    )
    kinds = table.group_by("user_id").agg(pl.col("part").cast(pl.String).unique().sort(), pl.len().alias("n"))
    names = {tuple(kind) for kind in kinds["part"].to_list()}
    assert names == {("train",), ("context", "test"), ("context", "valid")}
    assert table.filter(pl.col("part") == "test").height == 60
    assert table.filter(pl.col("part") == "valid").height == 30
    held_out = table.filter(pl.col("part").is_in(["test", "valid", "context"])).sort(
        "user_id", "timestamp", "row"
    )
    last = held_out.group_by("user_id", maintain_order=True).last()
    assert not (last["part"] == "context").any()
    assert parts(log("abcde"), strategy="users", test=0.5) == "ttttt"


def test_k_core_reaches_its_fixed_point():
    """Item z keeps user c at 2 rows until z goes for lack of users, and then c goes too."""
    users = np.array([0, 0, 1, 1, 2, 2], np.uint32)
    items = np.array([0, 1, 0, 1, 0, 2], np.uint32)
    assert k_core(users, items, 2, 2).tolist() == [True] * 4 + [False] * 2
    assert not k_core(users, items, 3, 1).any()
    frame = log("aabbcc", items="xyxyxz")
    assert parts(frame, min_user=2, min_item=2) == "tttt.."
    assert parts(frame, min_user=9) == "......"


def test_k_core_of_random_data_is_the_largest():
    frame = big()
    part = assign(frame, SplitSpec(min_user=5, min_item=60))
    kept = frame.filter(part.is_not_null())
    assert 0 < kept.height < frame.height
    assert kept["user_id"].value_counts()["count"].min() >= 5
    assert kept["item_id"].value_counts()["count"].min() >= 60


def test_an_empty_log_has_no_parts():
    empty = log("a").clear()
    for strategy in ("last", "time", "random", "users"):
        assert parts(empty, strategy=strategy) == ""


@pytest.fixture
def dataset(tmp_path):
    data, truth, parameters = synthesise(World(users=50, items=60))
    write_synthetic(data, tmp_path / "data", truth, parameters)
    return tmp_path / "data"


def test_a_split_on_disk_is_bound_to_its_data(dataset, tmp_path):
    spec = SplitSpec(strategy="time", test=0.3)
    out, record = write_split(dataset, spec)
    assert out.parent == dataset / "splits"
    frame = pl.read_parquet(dataset / "interactions.parquet")
    table = pl.read_parquet(out / "split.parquet")
    assert table.columns == ["user_id", "item_id", "timestamp", "part"]
    assert table.select(frame.columns[:3]).equals(frame.select(frame.columns[:3]))
    card = read_card(dataset)
    loaded, part = load_split(out, card)
    assert loaded == spec
    assert split_digest(part) == record.parts_digest == split_digest(assign(frame, spec))
    assert (
        sum(record.counts[name] for name in ("train", "valid", "test", "context", "unused")) == frame.height
    )
    assert record.counts["cold_items"] == len(record.cold_items) > 0
    assert json.loads((out / "split.json").read_text())["data_hash"] == card.data_hash()
    with pytest.raises(DataError, match=r"exists already.*--overwrite"):
        write_split(dataset, spec)
    write_split(dataset, spec, overwrite=True)


def test_a_foreign_or_damaged_split_is_refused(dataset, tmp_path):
    out, _ = write_split(dataset, SplitSpec(), tmp_path / "split")
    card = read_card(dataset)
    other = card.model_copy(update={"sha256": {"interactions.parquet": "0"}})
    with pytest.raises(
        DataError, match=r"was made from dataset 'synth-movies' with hash .* Make the split again"
    ):
        load_split(out, other)
    table = pl.read_parquet(out / "split.parquet")
    table.with_columns(pl.lit("train").alias("part")).write_parquet(out / "split.parquet")
    with pytest.raises(DataError, match=r"does not match its split.json"):
        load_split(out, card)
    with pytest.raises(DataError, match=r"holds no split.json"):
        load_split(tmp_path, card)
    (out / "split.json").write_text("{}")
    with pytest.raises(DataError, match="is not a split record"):
        load_split(out, card)


def test_the_split_of_a_source_stands_in_the_folder_of_its_dataset(dataset):
    card, frame = read_card(dataset), pl.read_parquet(dataset / "interactions.parquet")
    assert own_split(dataset, SplitSpec()) is None
    given = pl.Series(np.resize(["train", "test", "train", "valid"], frame.height))
    record = write_own_split(dataset, card, frame, given)
    out = own_split(dataset, SplitSpec())
    assert out == own_split(dataset, SplitSpec(strategy="source")) == dataset / "splits" / "source"
    assert own_split(dataset, SplitSpec(strategy="random")) is None
    loaded, part = load_split(out, card)
    assert (loaded.strategy, part.cast(pl.String).to_list()) == ("source", given.to_list())
    assert record.counts["train"] == given.eq("train").sum() == (frame.height + 1) // 2
    assert pl.read_parquet(out / "split.parquet")["item_id"].equals(frame["item_id"])


def test_short_users_are_counted(dataset, tmp_path):
    from recloom.data.split import split_record

    frame = log("aabccc")
    spec = SplitSpec()
    record = split_record(frame, assign(frame, spec), spec, read_card(dataset))
    assert record.counts["short_users"] == 2
    assert (record.counts["train"], record.counts["valid"], record.counts["test"]) == (4, 1, 1)


@pytest.mark.parametrize(
    ("valid", "test", "counts"), [(0.5, 0.4, 3), (0.4, 0.5, 3), (0.3, 0.6, 2), (0.6, 0.3, 2)]
)
def test_a_row_of_every_user_stays_in_train_however_shares_are_rounded(valid, test, counts):
    spec = SplitSpec(strategy="random", valid=valid, test=test)
    codes = split_rows(np.arange(5 * counts), np.full(5, counts), spec).reshape(5, counts)
    held = min(round(counts * test), counts - 1)
    expected = {"test": held, "valid": min(round(counts * valid), counts - 1 - held)}
    for name, number in (expected | {"train": counts - sum(expected.values())}).items():
        assert ((codes == PARTS.index(name)).sum(1) == number).all(), name
    assert expected["test"] + expected["valid"] < counts


def test_a_split_says_what_it_is():
    assert str(SplitSpec()) == "last"
    assert (
        str(SplitSpec(strategy="time", test_from="2017-01-01"))
        == "time (0.1 validation, test from 2017-01-01)"
    )
    assert (
        str(SplitSpec(strategy="users", seed=3, min_user=5))
        == "users (0.1 validation, 0.2 test, seed 3, min_user 5)"
    )
