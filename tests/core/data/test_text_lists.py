"""Lists of items that are text in a cell: one row for each item, by evidence, or a question."""

import json
import shlex

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.prepare.source import recognise
from recloom.data.readers.table import Table
from recloom.data.readers.text_lists import list_role, mark_of
from recloom.errors import DataError


def write(tmp_path, text, name="log.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def found(path, **options):
    rows = Table(**options).read(path).interactions
    return [f"{user}:{','.join(items)}" for user, items in
            rows.group_by("user_id", maintain_order=True).agg("item_id").rows()]  # fmt: skip


LISTED = ["a:12,7,19", "b:7", "c:19,19"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.csv", "user_id,item_id_list\na,12 7 19\nb,7\nc,19 19\n"),
        ("log.csv", 'user_id,item_ids\na,"12,7,19"\nb,7\nc,"19, 19"\n'),
        ("log.tsv", "user_id:token\titem_id:token_seq_list\na\t12 7 19\nb\t7\nc\t19  19\n"),
        ("log.tsv", "user\tmovies\na\t12,7,19\nb\t7\nc\t19,19\n"),
        ("log.csv", "userId;History\na;12|7|19\nb;7\nc;19|19\n"),
        ("log.jsonl", "".join(json.dumps({"user": user, "basket": items}) + "\n"
                              for user, items in (("a", "12 7 19"), ("b", "7"), ("c", "19 19")))),
    ],
)  # fmt: skip
def test_columns_named_for_lists_are_taken_apart_in_order(tmp_path, name, text):
    if "token_seq_list" in text:
        text = text.replace("item_id:token_seq_list", "item_id_list:token_seq")
    path = write(tmp_path, text, name)
    assert recognise(path) is Table
    assert found(path) == LISTED
    notes = Table().read(path).notes
    assert "item_id holds lists: 3 rows became 6, in their order" in notes


def test_what_is_missing_in_a_list_moves_nothing_else(tmp_path):
    """Dropping the gaps would pair 12 with 5, in silence; a missing part is a rejected row."""
    path = write(
        tmp_path,
        'user_id;item_ids;ratings\na;"12,,19";",5,1"\nb;"7,8,";"3,4"\nc;"5";"2"\nd;"1, 2 ,3";"1,2,3"\n',
    )
    read = Table().read(path)
    rows = read.interactions.select("user_id", "item_id", "value").rows()
    assert [row for row in rows if row[0] in "bcd"] == [
        ("b", "7", 3.0), ("b", "8", 4.0), ("c", "5", 2.0), ("d", "1", 1.0), ("d", "2", 2.0), ("d", "3", 3.0),
    ]  # fmt: skip
    assert [row[1:] for row in rows if row[0] == "a"] == [("19", 1.0)]
    assert read.rejected["reason"].to_list() == ["value is empty or not a number", "item_id is empty"]


def test_times_and_ratings_go_with_their_items(tmp_path, capsys):
    text = ("user_id,item_id_list,timestamp_list,rating_list\n"
            "a,12 7 19,1300000000 1300000100 1300000050,4 3.5 1\nb,7,1300000007,5\n")  # fmt: skip
    path = write(tmp_path, text)
    main(["data", "prepare", str(path), "--out", str(tmp_path / "data")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "item_id with timestamp, value holds lists: 2 rows became 4, in their order" in shown
    rows = pl.read_parquet(tmp_path / "data" / "interactions.parquet")
    assert rows.select("user_id", "item_id", "timestamp", "value").rows() == [
        ("a", "12", 1_300_000_000, 4.0), ("a", "19", 1_300_000_050, 1.0), ("a", "7", 1_300_000_100, 3.5),
        ("b", "7", 1_300_000_007, 5.0),
    ]  # fmt: skip


def test_equal_lengths_beside_times_are_evidence_whatever_the_column_is_called(tmp_path):
    text = "user,item,time\na,12 7 19,1300000000 1300000100 1300000200\nb,7,1300000007\n"
    assert found(write(tmp_path, text)) == ["a:12,7,19", "b:7"]


def test_lengths_that_differ_are_an_error_with_the_row(tmp_path):
    text = "user,items,times\n" + "a,12 7,1300000000 1300000100\n" * 9 + "b,7 9 8,1300000007 1300000008\n"
    with pytest.raises(DataError, match=r"row 11: 3 items and 2 of timestamp.*--time-column none"):
        Table().read(write(tmp_path, text))


def test_one_time_a_row_is_no_list(tmp_path):
    text = "user,items,time\na,12 7,2011-03-20 10:00:00\nb,7 9,2011-03-21 11:00:00\n"
    rows = Table().read(write(tmp_path, text)).interactions
    assert rows["timestamp"].n_unique() == 2
    assert rows.height == 4


def test_numbers_in_a_cell_of_one_id_are_asked_about(tmp_path):
    path = write(tmp_path, "user_id,item_id\na,12 7 19\nb,7\nc,19 19\n")
    with pytest.raises(
        DataError, match=r"cells of 'item_id' such as '12 7 19' may be lists of items"
    ) as error:
        Table().read(path)
    lists, single = [line for line in str(error.value).splitlines() if line.startswith("  recloom")]
    assert lists == f"  recloom data prepare table --path {path} --list-separator ' ' --out DIR"
    for line, items in ((lists, ["12", "7", "19"]), (single, ["12 7 19"])):
        out = tmp_path / f"data{len(items)}"
        main([str(out) if word == "DIR" else word for word in shlex.split(line)[1:]])
        rows = pl.read_parquet(out / "interactions.parquet")
        assert rows.filter(user_id="a")["item_id"].to_list() == items


def test_words_in_a_column_of_lists_are_asked_about(tmp_path):
    path = write(tmp_path, "user,items\na,milk bread\nb,bread\nc,egg milk\n")
    with pytest.raises(DataError, match="may be lists of items, separated by a space, or single ids"):
        Table().read(path)
    assert found(path, list_separator=" ") == ["a:milk,bread", "b:bread", "c:egg,milk"]


def test_names_with_spaces_stay_single_ids_with_a_word(tmp_path):
    path = write(tmp_path, "user,item\na,red shoes\nb,blue hat\nc,hat\n")
    raw = Table().read(path)
    assert raw.interactions["item_id"].to_list() == ["red shoes", "blue hat", "hat"]
    assert any(
        "such as 'red shoes' are read as single ids; --list-separator says" in note for note in raw.notes
    )
    plain = Table().read(write(tmp_path, "user,item\na,shoes\nb,hat\n"))
    assert not any("--list-separator" in note for note in plain.notes)


def test_counts_of_items_are_no_lists(tmp_path):
    path = write(tmp_path, "user_id,items,age\na,12,30\nb,7,31\n")
    with pytest.raises(DataError, match="no column of item ids recognised"):
        recognise(path)


@pytest.mark.parametrize(
    ("name", "role"),
    [("item_id_list:token_seq", "item_id"), ("Movies", "item_id"), ("item_ids", "item_id"), ("history", "item_id"),
     ("timestamp_list", "timestamp"), ("ratings", "value"), ("item_id", None), ("tags", None), ("age", None)],
)  # fmt: skip
def test_names_of_columns_of_lists(name, role):
    assert list_role(name) == role


def test_what_separates_words():
    assert mark_of(["12 7", "9"]) == " "
    assert mark_of(["12, 7", "9"]) == ","
    assert mark_of(["12", "9"]) is None
    assert mark_of(["Heat (1995) x"]) is None
