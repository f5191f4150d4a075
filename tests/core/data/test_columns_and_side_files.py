"""Columns are those that were named, whatever the others are called; side files are of any kind."""

import gzip
import json

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.prepare.dataset import arrange
from recloom.data.readers.amazon import Amazon
from recloom.data.readers.sequences import Sequences
from recloom.data.readers.table import Table
from recloom.errors import DataError

ROWS = [
    {"visit": f"v{n // 2}", "user_id": n % 3, "sku": f"p{n}", "item_id": n, "when": 1_500_000_000 + n,
     "timestamp": "?", "stars": 3, "value": "", "line": "L", "file": "F"}
    for n in range(8)
]  # fmt: skip
NAMED = {"user_column": "visit", "item_column": "sku", "time_column": "when", "value_column": "stars"}
OTHERS = ["user_id", "item_id", "timestamp", "value", "line", "file"]


@pytest.mark.parametrize("option", ["--items-path", "--users-path"])
def test_a_side_file_that_is_not_there_is_named_with_its_own_option(tmp_path, option):
    sides = {option[2:].replace("-", "_"): [tmp_path / "gone.csv"]}
    with pytest.raises(DataError, match=rf"gone\.csv is not a file\. Check {option}\."):
        Table(**NAMED, **sides).read(written(tmp_path, "csv"))


def written(folder, kind):
    frame, path = pl.DataFrame(ROWS), folder / f"log.{kind}"
    if kind == "csv":
        frame.write_csv(path)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    elif kind == "tsv":
        frame.write_csv(path, separator="\t")
    elif kind == "parquet":
        frame.write_parquet(path)
    elif kind == "jsonl":
        frame.write_ndjson(path)
    else:
        path.write_text(json.dumps(ROWS, indent=1))
    return path


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "parquet", "jsonl", "json"])
def test_no_column_moves_whatever_others_are_called(tmp_path, kind):
    raw = Table(**NAMED, keep_columns=OTHERS).read(written(tmp_path, kind))
    roles = raw.interactions.select("user_id", "item_id", "timestamp", "value").rows()
    assert roles == [(row["visit"], row["sku"], row["when"], pytest.approx(3)) for row in ROWS]
    kept = raw.interactions.select(f"other_{name}" for name in OTHERS)
    assert kept["other_item_id"].cast(pl.Int64).to_list() == list(range(8))
    assert kept["other_line"].to_list() == ["L"] * 8
    assert any("kept under other names: user_id as other_user_id, item_id as" in note for note in raw.notes)
    assert arrange(raw).counts["interactions"] == 8
    bare = Table(**NAMED).read(written(tmp_path, kind)).interactions
    assert set(bare.columns) == {"line", "user_id", "item_id", "timestamp", "value"}


def test_keys_of_reviews_that_are_called_as_columns_are(tmp_path):
    review = {
        "reviewerID": "u",
        "asin": "a",
        "overall": 5,
        "unixReviewTime": 9,
        "timestamp": "t",
        "line": "l",
    }
    (tmp_path / "reviews.json").write_text(json.dumps(review) + "\n")
    raw = Amazon(keep_columns=["timestamp", "line", "asin"]).read(tmp_path / "reviews.json")
    assert raw.interactions.select("item_id", "timestamp", "other_timestamp", "other_line").rows() == [
        ("a", 9, "t", "l")
    ]


def test_a_column_cannot_have_two_roles(tmp_path):
    path = written(tmp_path, "csv")
    with pytest.raises(DataError, match="--user-column and --item-column name one column, 'visit'"):
        Table(user_column="visit", item_column="visit").read(path)


def test_columns_without_a_name_and_names_that_are_taken_twice(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(",user,item,other_user_id,user_id\n0,a,x,1,2\n1,b,y,3,4\n")
    raw = Table(user_column="user", keep_columns=["other_user_id", "user_id"]).read(path)
    assert raw.interactions.select("user_id", "other_user_id", "other_other_user_id").rows() == [
        ("a", "1", "2"), ("b", "3", "4"),
    ]  # fmt: skip


ITEMS = [
    {
        "original_id": "o",
        "business_id": f"p{n}",
        "name": f"Café {n}",
        "title": "Mr",
        "line": "7",
        "tags": ["a", "b"],
    }
    for n in range(8)
]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "parquet", "psv", "csv.gz", "txt", "py.json"])
def test_side_files_are_of_any_kind(tmp_path, kind):
    frame, path = pl.DataFrame(ITEMS), tmp_path / f"goods.{kind}"
    lines = "".join(json.dumps(item) + "\n" for item in ITEMS)
    flat = frame.drop("tags")
    if kind == "parquet":
        frame.write_parquet(path)
    elif kind == "json":
        path.write_text(json.dumps(ITEMS))
    elif kind == "py.json":  # lines that are dictionaries of Python, as Steam's are
        path.write_text("".join(f"{item}\n" for item in ITEMS))
    elif kind.startswith("jsonl"):
        path.write_bytes(gzip.compress(lines.encode()) if kind.endswith("gz") else lines.encode())
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(flat.write_csv().encode("cp1252")))
    elif kind == "psv":
        flat.write_csv(path, separator="|")
    else:
        path.write_bytes(flat.write_csv(separator=";").encode("utf-16"))
    named = NAMED if kind == "json" else NAMED | {"title_column": "name"}
    raw = Table(**named, items_path=[path]).read(written(tmp_path, "csv"))
    assert f"goods.{kind}: 8 of 8 ids found" in raw.notes
    assert raw.items["item_id"].to_list() == [f"p{n}" for n in range(8)]
    expected = ["Mr"] * 8 if kind == "json" else [f"Café {n}" for n in range(8)]
    assert raw.items["title"].to_list() == expected
    assert raw.items["other_line"].to_list() == ["7"] * 8
    assert arrange(raw).items.height == 8


def test_types_of_recbole_are_no_part_of_a_name(tmp_path):
    path = tmp_path / "goods.item"
    path.write_text('item_id:token\tprice:float\tTitle:token_seq\tprice\np1\t2\tA "big" one\t3\n')
    raw = Table(**NAMED, items_path=[path]).read(written(tmp_path, "csv"))
    assert raw.items.rows(named=True) == [
        {"item_id": "p1", "price": "2", "title": 'A "big" one', "other_price": "3"}
    ]
    assert Table(**NAMED, items_path=[path], title_column="price:float").read(written(tmp_path, "csv")).items[
        "title"
    ].to_list() == ["2"]
    with pytest.raises(DataError, match=r"'item_id' \(--title-column\) is the column of ids"):
        Table(**NAMED, items_path=[path], title_column="item_id:token").read(written(tmp_path, "csv"))


def test_a_map_of_ids_leads_to_json_and_users_may_be_json_too(tmp_path):
    (tmp_path / "lines.txt").write_text("1 1\n1 2\n2 1\n")
    (tmp_path / "map.txt").write_text("1 p1\n2 p2\n")
    (tmp_path / "goods.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    (tmp_path / "people.jsonl").write_text(
        '{"uid": "1", "num_interactions": 9, "age": 30}\n{"uid": "2"}\nbroken\n{"uid": "1"}\n'
    )
    raw = Sequences([tmp_path / "map.txt", tmp_path / "goods.jsonl"], [tmp_path / "people.jsonl"]).read(
        tmp_path / "lines.txt"
    )
    assert raw.items.select("item_id", "title", "original_id", "other_original_id").rows() == [
        ("1", "Mr", "p1", "o"), ("2", "Mr", "p2", "o"),
    ]  # fmt: skip
    assert sorted(raw.rejected_items.select("line", "reason").rows()) == [
        (3, "not a JSON object"), (4, "user_id stands in an earlier row already"),
    ]  # fmt: skip
    users = arrange(raw).users
    assert users.select("user_id", "num_interactions", "other_num_interactions").row(0) == ("1", 2, "9")


def test_an_array_of_objects_says_where_it_is_broken_and_where_its_rows_stand(tmp_path):
    path = tmp_path / "log.json"
    path.write_text('[\n {"user": "a", "item": "x"},\n\n 7,\n {"user": "", "item":\n "y"}\n]\n')
    raw = Table().read(path)
    assert raw.interactions["line"].to_list() == [2]
    assert sorted(raw.rejected.select("line", "reason").rows()) == [
        (4, "not a JSON object"),
        (5, "user_id is empty"),
    ]
    path.write_text('[\n {"user": "a", "item": "x"},\n {"user": "a", "item"\n]')
    with pytest.raises(DataError, match=r"log.json, line 3: the JSON array is broken there"):
        Table().read(path)


def test_lists_of_items_are_one_row_each(tmp_path, capsys):
    frame = pl.DataFrame(
        {"user": ["a", "b"], "item": [[3, 1, 2], [2]], "time": [[10, 20, 30], [5]], "tags": [["x"], ["y"]]}
    )
    frame.write_parquet(tmp_path / "log.parquet")
    raw = Table(keep_columns=["tags"]).read(tmp_path / "log.parquet")
    assert raw.interactions.select("line", "user_id", "item_id", "timestamp").rows() == [
        (1, "a", "3", 10), (1, "a", "1", 20), (1, "a", "2", 30), (2, "b", "2", 5),
    ]  # fmt: skip
    assert "item_id with timestamp holds lists: 2 rows became 4, in their order" in raw.notes
    (tmp_path / "log.jsonl").write_text(
        '{"user": "a", "item": ["p", "q"], "rating": [1, 2]}\n{"user": "b", "item": []}\n'
    )
    raw = Table().read(tmp_path / "log.jsonl")
    assert raw.interactions.select("item_id", "value").rows() == [("p", 1.0), ("q", 2.0)]
    assert raw.rejected.select("line", "reason").rows() == [(2, "item_id is empty")]
    with pytest.raises(DataError, match=r"row 1: 3 items and 1 of timestamp.*--time-column none"):
        Table(time_column="tags").read(tmp_path / "log.parquet")
    words = [
        "data",
        "prepare",
        "auto",
        "--path",
        str(tmp_path / "log.parquet"),
        "--out",
        str(tmp_path / "out"),
    ]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--item-column", "user", "--user-column", "item"])
    assert ended.value.code == 2
    assert "the column taken for user_id holds List(Int64)" in " ".join(capsys.readouterr().err.split())


def test_spaces_around_ids_of_json_and_parquet_go_where_that_joins_none(tmp_path):
    frame = pl.DataFrame({"user": [" a", "a ", "b"], "item": [" 7", "\t8", "9 "]})
    frame.write_parquet(tmp_path / "log.parquet")
    (tmp_path / "goods.jsonl").write_text(
        '{"id": " 7"}\n' + '{"id": "8"}\n' + '{"id": "9 ", "name": "Nine"}\n'
    )
    raw = Table(items_path=[tmp_path / "goods.jsonl"]).read(tmp_path / "log.parquet")
    assert raw.interactions["item_id"].to_list() == ["7", "8", "9"]
    assert raw.interactions["user_id"].to_list() == [" a", "a ", "b"]
    assert "log.parquet: spaces around 3 of item_id were removed" in raw.notes
    assert (
        "warning: log.parquet: 2 of user_id have spaces around them, and other ids differ by these alone, such as "
        "' a' and 'a '; all stay as they are. Write them alike if they are the same"
    ) in raw.notes
    assert raw.items.rows() == [("7", None), ("8", None), ("9", "Nine")]


def test_spaces_within_quotes_and_unbreakable_ones_are_no_part_of_an_id(tmp_path):
    (tmp_path / "log.csv").write_text('user,item,note\n" a","\u00a07 "," x "\nc,8,y\nb\u00a0,"9, or so",z\n')
    (tmp_path / "goods.csv").write_text('id,title\n"7 ","Seven"\n8," Eight "\n"9, or so",Nine\n')
    raw = Table(items_path=[tmp_path / "goods.csv"], keep_columns=["note"]).read(tmp_path / "log.csv")
    assert raw.interactions["item_id"].to_list() == ["7", "8", "9, or so"]
    assert raw.interactions["user_id"].to_list() == ["a", "c", "b"]
    assert raw.items.rows() == [("7", "Seven"), ("8", " Eight "), ("9, or so", "Nine")]
