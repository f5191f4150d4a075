"""Splits stay what they are: digests of every strategy as they were computed when rows were sorted for each split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from recloom.data import Catalog, Interactions, parts_of, read_card
from recloom.data.batches import RecDataModule
from recloom.data.prepare import arrange, prepare_source, write_dataset
from recloom.data.readers import RawTables
from recloom.data.split import assign, split_digest
from recloom.schemas import Source, SplitSpec

SPECS = {
    "last": SplitSpec(),
    "last, cores": SplitSpec(min_user=4, min_item=3),
    "time": SplitSpec(strategy="time", valid=0.1, test=0.2),
    "time, cores": SplitSpec(strategy="time", valid=0, test=0.3, min_user=4, min_item=3),
    "random": SplitSpec(strategy="random", valid=0.1, test=0.2),
    "random, seed, cores": SplitSpec(
        strategy="random", valid=0.15, test=0.25, seed=7, min_user=4, min_item=3
    ),
    "users": SplitSpec(strategy="users", valid=0.1, test=0.2),
    "users, seed, cores": SplitSpec(strategy="users", valid=0.2, test=0.1, seed=3, min_user=4, min_item=3),
}
GOLDEN: dict[str, dict[str, str]] = {
    "rows": {
        "last": "f2d4151741f7652b",
        "last, cores": "3d0802c421d44bef",
        "time": "acee5a7c88f6fe71",
        "time, cores": "dc1a4b1bace035d4",
        "random": "7bc8c436951b10a2",
        "random, seed, cores": "1b57d91af54c64f7",
        "users": "4a862627f89ef103",
        "users, seed, cores": "2516681024f4568e",
    },
    "shuffled": {
        "last": "7f522569f4f073af",
        "last, cores": "1d8cccf3c4bd63cc",
        "time": "876b7e58fc59071f",
        "time, cores": "eba93b0c599a93ce",
        "random": "a9c6e2e9b77ee76a",
        "random, seed, cores": "496e7dc6d6940cb7",
        "users": "37882f5da7405082",
        "users, seed, cores": "3cc36f99fb96b4e9",
    },
    "prepared": {
        "last": "7dd85ff4e8629de3",
        "last, cores": "c5afd318d5b5c0c7",
        "time": "8057972877a0288e",
        "time, cores": "8071dd47ba6720cb",
        "random": "78cb923959edc395",
        "random, seed, cores": "15c8179d2fc1bc55",
        "users": "9b4efcf12e944508",
        "users, seed, cores": "c1f608f5dca78720",
    },
    "ml-latest-small": {
        "last": "4526bc19b2486854",
        "last, cores": "b6fe77bb55889868",
        "time": "db92a6a903168eda",
        "time, cores": "109f59dfa8ef05bf",
        "random": "f24fb5cb48218d93",
        "random, seed, cores": "a6e741b2fef223a7",
        "users": "63c51c571d4e0dcf",
        "users, seed, cores": "d4bb0ce45f5a18cc",
    },
    "ml-100k": {
        "last": "40f1ad0da7854dda",
        "last, cores": "565663b98998590d",
        "time": "44440cbf3d7536cd",
        "time, cores": "7e5bb4957c58d74c",
        "random": "89e61945a9be9f83",
        "random, seed, cores": "64878a8917820477",
        "users": "94f994aff30f4331",
        "users, seed, cores": "def6a85638c54dcb",
    },
    "amazon-beauty": {
        "last": "81b4908c19d30b5e",
        "last, cores": "81b4908c19d30b5e",
        "random": "cbf9df1c8a12a488",
        "random, seed, cores": "08a751582052ef2d",
        "users": "9b1e65b116a25c41",
        "users, seed, cores": "d71f5ee4fc52a2d4",
    },
}
SETS = {
    "ml-latest-small": ("movielens", "ml-latest-small"),
    "ml-100k": ("movielens", "ml-100k"),
    "amazon-beauty": ("sequences", "amazon-beauty/Beauty.txt"),
}
"""Shared sets: reader, and path."""


def log() -> pl.DataFrame:
    """600 rows of 70 users and 40 items without a random generator: ties in time, users of one row and of many."""
    n = np.arange(600, dtype=np.int64)
    users, items, times = n * n * 7919 % 104_729 % 70, n * 15_485_863 % 32_452_843 % 40, n * 193 % 97 * 60
    users[:4], users[4:7] = 70, 71  # two users of few rows
    users[7] = 72
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    frame = frame.unique(maintain_order=True)
    return frame.with_columns(pl.format("u{}", "user_id"), pl.format("i{}", "item_id"))


def prepared(folder: Path, frame: pl.DataFrame) -> Path:
    raw = RawTables(frame.with_columns(line=pl.int_range(1, pl.len() + 1)), [Path("log")])
    write_dataset(
        arrange(raw, ties="file"), folder, name="log", source=Source(reader="toy"), licence="invented"
    )
    return folder


@pytest.mark.parametrize("name", SPECS)
def test_of_rows_in_any_order(name):
    frame = log()
    shuffled = frame[np.argsort(np.arange(len(frame)) * 7_368_787 % 15_486_041)]
    assert split_digest(assign(frame, SPECS[name], ties="file")) == GOLDEN["rows"][name]
    assert split_digest(assign(shuffled, SPECS[name], ties="file")) == GOLDEN["shuffled"][name]


@pytest.mark.parametrize("name", SPECS)
def test_of_a_prepared_dataset_by_its_ranges(tmp_path, name):
    folder = prepared(tmp_path / "log", log())
    spec, part = parts_of(folder, read_card(folder), SPECS[name])
    assert (spec, split_digest(part)) == (SPECS[name], GOLDEN["prepared"][name])
    frame = pl.read_parquet(folder / "interactions.parquet")
    assert assign(frame, SPECS[name], ties="file").equals(part, null_equal=True)
    data = RecDataModule(str(folder), split=SPECS[name])
    data.setup()
    assert data.split_hash == GOLDEN["prepared"][name]


@pytest.mark.parametrize("name", ["last", "random", "users, seed, cores"])
def test_of_a_file_that_is_in_another_order(tmp_path, name):
    """Its digest is of the rows as they stand; the parts of the data module hold the same rows."""
    folder = prepared(tmp_path / "log", log())
    frame = pl.read_parquet(folder / "interactions.parquet")
    frame = frame[np.argsort(np.arange(len(frame)) * 7_368_787 % 15_486_041)]
    frame.write_parquet(folder / "interactions.parquet")
    part = assign(frame, SPECS[name], ties="file")
    data = RecDataModule(str(folder), split=SPECS[name])
    data.setup()
    assert data.split_hash == split_digest(part) == split_digest(parts_of(folder, data.card, SPECS[name])[1])
    users, items = data.parts["test"].pairs()
    found = zip(data.catalog.users["user_id"].gather(users - 1), data.catalog.item_ids(items), strict=True)
    held_out = frame.filter(part.eq("test").fill_null(False))
    assert sorted(found) == sorted(held_out.select("user_id", "item_id").iter_rows())


@pytest.mark.parametrize("name", SPECS)
def test_one_look_at_the_rows_finds_the_parts_that_masks_find(tmp_path, name):
    folder = prepared(tmp_path / "log", log())
    data = RecDataModule(str(folder), split=SPECS[name])
    data.setup()
    everything = Interactions.load(folder, Catalog.load(folder))
    part = parts_of(folder, data.card, SPECS[name])[1].cast(pl.String).fill_null("unused").to_numpy()
    user = everything.pairs()[0].numpy()
    wanted = {("train",): data.train, ("valid",): data.parts["valid"], ("test",): data.parts["test"],
              ("train", "context"): data.visible["valid"],
              ("train", "valid", "context"): data.visible["test"]}  # fmt: skip
    for names, found in wanted.items():
        kept = np.isin(part, names)
        assert found.pairs()[0].tolist() == user[kept].tolist()
        assert found.pairs()[1].tolist() == everything.items.numpy()[kept].tolist()
        assert found.times[found.rows()].tolist() == everything.times.numpy()[kept].tolist()
    if name == "last":
        assert all(found.items is data.everything.items for found in wanted.values())  # views, no copies


@pytest.mark.parametrize("name", SETS)
def test_of_real_sets(tmp_path, real_data, name):
    reader, path = SETS[name]
    if not (real_data / path).exists():
        pytest.skip(f"{real_data / path} is not there")
    out = tmp_path / name
    _, _, card = prepare_source(reader, out, real_data / path, ties="file")
    found = {
        spec: split_digest(parts_of(out, card, SPECS[spec])[1])
        for spec in SPECS
        if card.time == "seconds" or "time" not in spec
    }
    assert found == GOLDEN[name]
