"""Yoochoose: clicks and purchases of sessions, by the places of their columns."""

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.card import read_card
from recloom.data.prepare.source import recognise
from recloom.data.readers.yoochoose import Yoochoose
from recloom.errors import DataError

CLICKS = """1,2014-04-07T10:51:09.277Z,214536502,0
1,2014-04-07T10:54:09.868Z,214536500,S
2,2014-04-07T13:56:37.614Z,214662742,11
2,2014-04-07T13:57:19.373Z,214662742,2089046131
3,2014-04-02T13:17:46.940Z,214825110,
"""
BUYS = "2,2014-04-07T14:02:11.010Z,214662742,1046,2\n3,2014-04-02T13:20:00.000Z,214825110,,\n"
AT = 1_396_867_869  # 2014-04-07T10:51:09Z


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "yoochoose-clicks.dat").write_text(CLICKS)
    (folder / "yoochoose-buys.dat").write_text(BUYS)
    (folder / "yoochoose-test.dat").write_text("7,2014-04-09T10:51:09.277Z,214536502,0\n")
    return folder


def test_both_files_are_events(raw, tmp_path, capsys):
    assert recognise(raw) is Yoochoose
    data = tmp_path / "data"
    main(["data", "prepare", str(raw), "--out", str(data)])
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "yoochoose-clicks.dat: 5 rows are the event `click`; user_id, timestamp, item_id, category" in shown
    )
    assert "category is kept as text: 1 of S (special offer), 1 of 0 (none known)" in shown
    assert "left unused: yoochoose-test.dat" in shown
    rows = pl.read_parquet(data / "interactions.parquet")
    assert rows.filter(user_id="1").select("item_id", "timestamp", "event", "category").rows() == [
        ("214536502", AT, "click", "0"), ("214536500", AT + 180, "click", "S"),
    ]  # fmt: skip
    assert rows.filter(user_id="2").select("event", "category", "price", "quantity").rows() == [
        ("click", "11", None, None), ("click", "2089046131", None, None), ("buy", None, 1046, 2),
    ]  # fmt: skip
    assert rows.filter(user_id="3").select("event", "category", "price").rows() == [
        ("click", None, None), ("buy", None, None),
    ]  # fmt: skip
    assert read_card(data).events.names == ["buy", "click"]


def test_one_file_says_that_the_other_is_beside_it(raw):
    path = raw / "yoochoose-clicks.dat"
    assert recognise(path) is Yoochoose
    tables = Yoochoose().read(path)
    assert tables.interactions["event"].unique().to_list() == ["click"]
    assert "yoochoose-buys.dat beside it is not read: give the folder to have both" in tables.notes
    assert recognise(raw / "yoochoose-test.dat") is Yoochoose


def test_rows_that_are_not_as_the_others_are_rejected(raw):
    path = raw / "yoochoose-buys.dat"
    path.write_text(BUYS * 11 + "4,2014-04-02,214825110,1,1\n4,2014-04-02T13:20:00.000Z,7,a,1\n4,2014\n")
    tables = Yoochoose().read(path)
    assert tables.interactions.height == 22
    assert tables.rejected.select("line", "reason").rows() == [
        (23, "timestamp is empty or not a time"), (25, "2 fields instead of 5"), (24, "price is no whole number"),
    ]  # fmt: skip


def test_other_files_are_none_of_it(tmp_path):
    (tmp_path / "clicks.dat").write_text("1,2014-04-07T10:51:09.277Z,2,0\nx,y,z,w\n")
    assert not Yoochoose.sniff(tmp_path)
    with pytest.raises(
        DataError, match=r"expected yoochoose-clicks.dat or yoochoose-buys.dat, with lines such as"
    ):
        Yoochoose().read(tmp_path)


def test_lines_of_ratings_are_no_clicks(tmp_path):
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("".join(f"{n},2014-04-07T10:51:09.277Z,{n * 7},{n % 5 + 1}\n" for n in range(40)))
    with pytest.raises(DataError, match="--columns user_id timestamp item_id value"):
        recognise(ratings)
    assert Yoochoose().read(ratings).interactions.height == 40  # named, it is read as such
