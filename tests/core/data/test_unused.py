"""Columns that are not read are named; times and titles among them with the option that reads them."""

import json

import polars as pl
import pytest
from recloom.data.readers.table import Table

HEADER = ["client", "product", "seen_on", "name", "price"]
ROWS = [
    [f"c{n % 3}", f"p{n % 4}", f"2021-03-{n + 1:02d} 10:00:00", f"Lamp, no. {n % 4}", f"{n}.50"]
    for n in range(12)
]


def written(tmp_path, kind):
    path = tmp_path / f"sales.{kind}"
    if kind == "csv":
        quoted = [",".join(f'"{cell}"' for cell in row) for row in [HEADER, *ROWS]]
        path.write_text("\n".join(quoted) + "\n")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in ROWS))
    else:
        pl.DataFrame(ROWS, schema=HEADER, orient="row").write_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_what_is_not_read_is_named(tmp_path, kind):
    notes = " | ".join(Table().read(written(tmp_path, kind)).notes)
    assert "not read: seen_on, name, price" in notes
    assert "seen_on looks like times, such as '2021-03-01 10:00:00'" in notes
    assert "--time-column seen_on" in notes
    assert "--title-column name" in notes


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_titles_beside_the_interactions_become_those_of_the_items(tmp_path, kind):
    reader = Table(title_column="name", time_column="seen_on", keep_columns=["price"])
    raw = reader.read(written(tmp_path, kind))
    assert dict(raw.items.rows()) == {f"p{n}": f"Lamp, no. {n}" for n in range(4)}
    assert set(raw.interactions.columns) == {"user_id", "item_id", "timestamp", "price", "line"}
    assert not [note for note in raw.notes if "not read" in note]


def test_an_item_with_two_titles_keeps_the_first_and_a_note(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,title\na,1,Heat\nb,1,Heat (1995)\na,2,\nb,2,Alien\n")
    raw = Table(title_column="title").read(path)
    assert dict(raw.items.rows()) == {"1": "Heat", "2": "Alien"}
    assert "titles: title, for 2 items; 1 further titles of the same items are left out" in raw.notes


def test_order_asked_for_is_not_questioned(tmp_path):
    notes = Table(time_column="none").read(written(tmp_path, "csv")).notes
    assert not [note for note in notes if "looks like times" in note]


@pytest.mark.parametrize(
    ("header", "time"),
    [
        ("User-ID,Item ID,Event_Time", "2019-10-01 07:30:00 UTC"),
        ("user_id,Product-ID,InvoiceDate", "2019-10-01 07:30:00"),
        ("UserID,BookID,date_added", "Tue Oct 01 09:30:00 +0200 2019"),
    ],
)
def test_names_and_times_as_programs_write_them(tmp_path, header, time):
    path = tmp_path / "log.csv"
    path.write_text(f"{header}\na,1,{time}\nb,2,{time}\n")
    raw = Table().read(path)
    assert raw.interactions["timestamp"].to_list() == [1569915000] * 2
