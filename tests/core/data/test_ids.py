"""Ids as they are meant: whole numbers with a decimal point, words for no value, ids that no record has, lists."""

import subprocess
import sys

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.prepare.check import check_path
from recloom.data.prepare.dataset import arrange
from recloom.data.readers.table import Table

FILMS = "film_id,title\n" + "".join(f"{n},Film {n}\n" for n in range(20, 30))


def log(tmp_path, users, items, ending="csv"):
    frame = pl.DataFrame(
        {"user": users, "item": items, "time": range(1_300_000_000, 1_300_000_000 + len(users))}
    )
    path = tmp_path / f"log.{ending}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_whole_numbers_with_a_point_are_whole_numbers(tmp_path, ending):
    users, items = [3.0, 3.0, 11.0], [20.0, 21.0, 20.0]
    (tmp_path / "films.csv").write_text(FILMS.replace("film_id", "item"))
    raw = Table(items_path=[tmp_path / "films.csv"]).read(log(tmp_path, users, items, ending))
    data = arrange(raw)
    assert data.interactions["user_id"].to_list() == ["3", "3", "11"]
    assert data.items.rows() == [("20", "Film 20"), ("21", "Film 21")]
    assert not any(note.startswith("warning") for note in raw.notes)
    assert ending == "jsonl" or any("such as 20.0 are read" in note for note in raw.notes)
    assert "films.csv: 2 of 2 ids found" in raw.notes


def test_records_with_a_point_meet_plain_ids(tmp_path):
    (tmp_path / "films.csv").write_text("item,title\n20.0,A\n21.0,B\n")
    data = arrange(Table(items_path=[tmp_path / "films.csv"]).read(log(tmp_path, [3, 4], [20, 21])))
    assert data.items["title"].to_list() == ["A", "B"]


def test_versions_are_no_whole_numbers(tmp_path):
    raw = Table().read(log(tmp_path, ["a", "b"], ["1.0", "1.5"]))
    assert arrange(raw).items["item_id"].to_list() == ["1.0", "1.5"]
    assert not any("whole numbers" in note for note in raw.notes)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_words_for_no_value_among_numbers_are_no_ids(tmp_path, ending):
    users = ["7", "NULL", "8", "None", "7", "nan", "\\N", "8", "-"]
    path = log(tmp_path, users, ["20", "21", "22", "23", "#N/A", "25", "26", "27", "28"], ending)
    raw = Table().read(path)
    data = arrange(raw)
    assert data.users["user_id"].to_list() == ["7", "8"]
    assert data.items["item_id"].to_list() == ["20", "22", "27"]
    assert data.counts["rejected"] == 6
    first = 1 + (ending == "csv")
    assert data.rejected.select("line", "reason").sort("line").rows() == [
        (first + 1, "user_id is empty (NULL)"), (first + 3, "user_id is empty (None)"),
        (first + 4, "item_id is empty (#N/A)"), (first + 5, "user_id is empty (nan)"),
        (first + 6, "user_id is empty (\\N)"), (first + 8, "user_id is empty (-)"),
    ]  # fmt: skip
    assert all("130000000" in text for text in data.rejected["text"])
    assert "5 of 9 rows have no user_id (NULL, None, nan, \\N, -), and are left out" in raw.notes


def test_a_name_that_is_such_a_word_is_kept_and_noted(tmp_path):
    raw = Table().read(log(tmp_path, ["ann", "Null", "bob", "Null"], ["NA", "x", "y", "z"]))
    assert arrange(raw).counts["rejected"] == 0
    assert [note.split(",")[0] for note in raw.notes if note.startswith("warning")] == [
        "warning: 2 of 4 rows have the user_id Null", "warning: 1 of 4 rows have the item_id NA",
    ]  # fmt: skip


def test_items_without_a_record_are_a_warning_above_one_in_twenty(tmp_path, capsys):
    (tmp_path / "films.csv").write_text(FILMS.replace("film_id", "item"))
    some = log(tmp_path, [1] * 10, [*range(20, 29), 99])
    words = ["data", "prepare", "table", "--path", str(some), "--items-path", str(tmp_path / "films.csv")]
    main([*words, "--out", str(tmp_path / "out")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "warning: 1 of 10 items of the interactions (10%) have no record, such as '99'" in shown
    found = check_path(some, {"items_path": [tmp_path / "films.csv"]})
    assert any("1 of 10 items of the interactions (10%)" in one.text for one in found)
    few = log(tmp_path, [1] * 20, [*range(20, 30), *range(20, 29), 29])
    raw = Table(items_path=[tmp_path / "films.csv"]).read(few)
    arrange(raw)
    assert not any(note.startswith("warning") for note in raw.notes)


@pytest.mark.parametrize("lists", [["(a, b)", "(c, d)"], ["i1 i2 i3", "i4 i5 i6 i7"]])
def test_lists_of_ids_are_named(tmp_path, lists):
    raw = Table(list_separator="none").read(log(tmp_path, ["a", "b"], lists))
    arrange(raw)
    assert any(note.startswith("warning: item_id holds lists, such as") for note in raw.notes)


def test_titles_as_ids_are_no_lists(tmp_path):
    raw = Table().read(log(tmp_path, ["a", "b"], ["Apollo 13", "Die Hard 2"]))
    arrange(raw)
    assert not any(note.startswith("warning") for note in raw.notes)


SETTLED = """
import polars, sys
from recloom.data.prepare import dataset, ids
from recloom.data.readers import RawTables
seen = []
def watched(true):
    def look(column):
        seen.append(polars.series.series.np.__dict__.get("ndarray") is not None)
        return true(column)
    return look
ids.as_numbers, dataset.factorise = watched(ids.as_numbers), watched(dataset.factorise)
rows = polars.DataFrame({"user_id": ["u", "u"], "item_id": ["i", "j"], "line": [1, 2]})
dataset.arrange(RawTables(rows, []))
assert seen == [True] * 4, seen
"""


def test_polars_knows_numpy_before_threads_need_it():
    """Two threads that resolve Polars' proxy of numpy together can fail: 1 run in 37 did."""
    subprocess.run([sys.executable, "-c", SETTLED], check=True, timeout=120)


def test_records_whose_ids_become_equal_are_one_and_said(tmp_path, capsys):
    (tmp_path / "r.csv").write_text("user_id,item_id\nu,1.0\nu,2.0\nv,1.0\n")
    (tmp_path / "items.csv").write_text("item_id,title\n1,A\n1.0,B\n2.0,C\n")
    words = ["data", "prepare", str(tmp_path / "r.csv"), "--items-path", str(tmp_path / "items.csv")]
    main([*words, "--out", str(tmp_path / "out")])
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items.rows() == [("1", "A"), ("2", "C")]
    assert "warning: 1 records have an id that another has, such as 1," in " ".join(
        capsys.readouterr().out.split()
    )
