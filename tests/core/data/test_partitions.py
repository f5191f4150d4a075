"""Folders named `column=value`: the values are columns, which are kept, named or guessed as those of a file are."""

import json
import os

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.card import read_card
from recloom.data.readers.folder import ALIKE, _once
from recloom.data.readers.table import Table
from recloom.data.split import parts_of
from recloom.errors import DataError
from recloom.schemas import SplitSpec


def put(path, rows, columns=("user_id", "item_id", "rating")):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(rows, schema=[*columns], orient="row")
    if path.suffix == ".parquet":
        table.write_parquet(path)
    elif path.suffix == ".csv":
        table.write_csv(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dicts()))


def rows(first, last):
    return [(f"u{n % 5}", f"i{n * 3 % 37}", n % 5 + 1) for n in range(first, last)]


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_values_of_folders_are_columns_of_their_rows(tmp_path, ending):
    for place, (event, day) in enumerate(
        [("buy", 1), ("buy", 2), ("see%20it", 1), ("__HIVE_DEFAULT_PARTITION__", 1)]
    ):
        put(tmp_path / f"event={event}/day=2024-01-0{day}/x.{ending}", rows(10 * place, 10 * place + 10))
    raw = Table().read(tmp_path)
    found = raw.interactions.group_by("event", "day").agg(pl.len(), pl.col("value").sum()).rows()
    days = {("buy", 1), ("buy", 2), ("see it", 1), (None, 1)}
    assert {(event, day) for event, day, _, _ in found} == {(event, f"2024-01-0{day}") for event, day in days}
    assert all((count, total) == (10, 30) for _, _, count, total in found)
    notes = " | ".join(raw.notes)
    assert "event, day: by the names of folders, kept beside each interaction" in notes
    assert notes.count("--time-column day") == 1
    timed = Table(time_column="day").read(tmp_path).interactions
    assert timed["timestamp"].unique().sort().to_list() == [1704067200, 1704153600]
    assert "day" not in timed.columns


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_values_of_folders_may_be_users_and_columns_of_a_file_come_first(tmp_path, ending):
    for user in ("a", "b"):
        names = ("item_id", "date", "shop")
        own = [(f"i{n}", f"2024-02-{n + 1:02d}", "north") for n in range(9)]
        put(tmp_path / f"user_id={user}/date=2020-01-01/shop=south/0.{ending}", own, names)
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},T{n}\n" for n in range(9)))
    raw = Table(keep_columns=["shop"]).read(tmp_path)
    assert raw.interactions.group_by("user_id").len().sort("user_id").rows() == [("a", 9), ("b", 9)]
    assert raw.interactions["timestamp"].min() == 1706745600
    assert raw.interactions["shop"].unique().to_list() == ["north"]
    assert raw.items["title"].to_list() == [f"T{n}" for n in range(9)]


def test_a_split_in_the_names_of_folders_or_in_a_column_of_pieces_is_kept(tmp_path, capsys):
    for place, part in enumerate(["train", "test"]):
        put(tmp_path / "folders" / f"split={part}" / "0.csv", rows(20 * place, 20 * place + 20))
        one = [(*row, part) for row in rows(20 * place, 20 * place + 20)]
        put(tmp_path / "pieces" / f"log-{place}.csv", one, ("user_id", "item_id", "rating", "part"))
    for name in ("folders", "pieces"):
        data = tmp_path / f"data-{name}"
        main(["data", "prepare", str(tmp_path / name), "--out", str(data), "--keep-split"])
        assert "the split of the source is kept: 20 train, 0 valid, 20 test" in capsys.readouterr().out
        assert parts_of(data, read_card(data), SplitSpec())[1].cast(pl.String).value_counts().height == 2


def test_a_table_beside_folders_of_values_is_not_taken_alone(tmp_path):
    put(tmp_path / "ratings.csv", rows(0, 30))
    put(tmp_path / "day=2024-01-02/more.csv", rows(30, 60))
    with pytest.raises(DataError, match=r"(?s)If ratings.csv holds .*If day=2024-01-02/more.csv holds"):
        Table().read(tmp_path)


def test_tables_in_other_folders_are_named(tmp_path):
    put(tmp_path / "ratings.csv", rows(0, 30))
    put(tmp_path / "older" / "ratings.csv", rows(30, 60))
    (tmp_path / "pictures").mkdir()
    assert "left unused: older/ (a folder, which is not looked into)" in Table().read(tmp_path).notes


def test_a_link_to_a_folder_above_is_refused(tmp_path):
    put(tmp_path / "day=1" / "x.csv", rows(0, 30))
    os.symlink(tmp_path, tmp_path / "day=1" / "again=2")
    with pytest.raises(DataError, match="again=2 is a link to a folder that it lies in"):
        Table().read(tmp_path)


def test_rejected_rows_are_found_in_files_of_one_name(tmp_path):
    for day in (1, 2):
        put(tmp_path / f"day={day}" / "x.csv", [*rows(10 * day, 10 * day + 10), ("", "i1", 3)])
    rejected = Table().read(tmp_path).rejected
    assert rejected.select("file", "line").rows() == [("day=1/x.csv", 12), ("day=2/x.csv", 12)]


def test_notes_of_many_files_are_few(tmp_path):
    notes = [(f"{n}.csv", text) for n in range(900) for text in ("all alike", f"{n} spaces, such as 'x{n}'")]
    notes.append(("7.csv", "of this one"))
    found = _once(notes, 900)
    assert found[0] == "all alike"
    assert found[1] == "0.csv: 0 spaces, such as 'x0'"
    assert found[-2:] == [
        f"899.csv, and {899 - ALIKE} more files before it: 899 spaces, such as 'x899'",
        "7.csv: of this one",
    ]
    assert len(found) == ALIKE + 3
