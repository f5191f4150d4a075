"""Folders of equal tables that are one in pieces: read whole, in order, or asked about with the command for all."""

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.prepare.source import recognise
from recloom.data.readers import text
from recloom.data.readers.pieces import pieces
from recloom.data.readers.table import Table
from recloom.errors import DataError


def rows(first, last):
    return [(f"u{n % 5}", f"i{n * 3 % 7}", n) for n in range(first, last)]


def table(first, last):
    return pl.DataFrame(rows(first, last), schema=["user_id", "item_id", "rating"], orient="row")


def folder(tmp_path, *names, header=True):
    for place, name in enumerate(names):
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        one = table(10 * place, 10 * place + 10)
        if name.endswith("parquet"):
            one.write_parquet(path)
        else:
            one.write_csv(path, include_header=header or not place)
    return tmp_path / "raw"


@pytest.mark.parametrize(
    "names",
    [
        ["part-0000.csv", "part-0001.csv", "part-0002.csv"],
        ["jan.csv", "feb.csv", "mar.csv"],
        ["log-9.parquet", "log-10.parquet", "log-11.parquet"],
        ["day=2024-01-01/part-0.parquet", "day=2024-01-02/part-0.parquet", "day=2024-01-02/part-1.parquet"],
    ],
)
def test_pieces_are_read_whole_and_in_their_order(tmp_path, names):
    raw = folder(tmp_path, *names)
    (raw / "_SUCCESS").touch()
    assert recognise(raw) is Table
    read = Table().read(raw)
    assert read.interactions["value"].to_list() == pytest.approx(range(30))
    assert read.interactions["file"].unique().sort().to_list() == [0, 1, 2]
    each = ", ".join(f"{name} (10 rows)" for name in names)
    assert f"joined in this order: {each}" in read.notes


def test_order_of_names(tmp_path):
    names = ["b_2_December.csv", "b_2_May.csv", "b_10_Jan.csv", "a1.csv", "maybe.csv", "c.csv"]
    (found,) = pieces([tmp_path / name for name in names], tmp_path)
    assert [path.name for path in found] == ["b_2_May.csv", "b_2_December.csv", "b_10_Jan.csv"]


def test_equal_tables_of_other_names_are_asked_about_with_the_command_for_all_first(tmp_path):
    raw = folder(tmp_path, "north.csv", "south.csv", "west.csv")
    with pytest.raises(DataError, match="several tables may hold the interactions") as error:
        recognise(raw)
    said = str(error.value).splitlines()
    assert said[1] == (
        "If these are one table in pieces, all 30 rows (north.csv 10, south.csv 10, west.csv 10):"
    )
    assert said[2].split(" --out")[0].endswith(f"--path {raw} --tables north.csv south.csv west.csv")
    words = [str(tmp_path / "data") if word == "DIR" else word for word in said[2].split()[1:]]
    main(words)
    assert pl.read_parquet(tmp_path / "data" / "interactions.parquet").height == 30


def test_copies_are_not_joined(tmp_path):
    raw = folder(tmp_path, "dump-1.csv")
    table(0, 14).write_csv(raw / "dump-2.csv")
    with pytest.raises(DataError, match="several tables may hold the interactions"):
        recognise(raw)


@pytest.mark.parametrize("second", ["u1,i1,4\nu2,i1,4\n", "1,1,4\n2,1,4\n"])
def test_a_piece_without_a_header_is_not_left_out(tmp_path, second):
    raw = folder(tmp_path, "log-0.csv")
    (raw / "log-1.csv").write_text(second)
    with pytest.raises(DataError, match=r"log-1.csv: by its name it is a piece of one table with log-0.csv"):
        Table().read(raw)
    assert Table(tables=["log-0.csv"]).read(raw).interactions.height == 10


def test_a_damaged_piece_of_a_partition_is_named_and_an_empty_one_is_none(tmp_path):
    raw = folder(tmp_path, "day=1/0.csv", "day=2/0.csv")
    (raw / "day=3").mkdir()
    (raw / "day=3" / "0.csv").touch()
    assert Table().read(raw).interactions.height == 20
    (raw / "day=3" / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"day=3/0.parquet, a piece of a table in .*, cannot be read"):
        Table().read(raw)


def test_a_file_of_a_folder_is_opened_a_few_times_and_not_once_a_line(tmp_path, monkeypatch):
    raw = folder(tmp_path, *(f"day={day}/log.csv" for day in range(4)))
    (raw / "other.csv").write_text("name,text\n" + "".join(f"{n},some text\n" for n in range(500)))
    opened = []
    real = text._first_lines
    monkeypatch.setattr(
        text, "_first_lines", lambda path, *more: opened.append(path.name) or real(path, *more)
    )
    assert Table().read(raw).interactions.height == 40
    assert opened.count("other.csv") < 40
    assert opened.count("log.csv") < 4 * 70
