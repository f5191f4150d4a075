"""Attributes of items and users as prompts show them."""

import polars as pl
import pytest
from recloom.data import Catalog
from recloom.errors import DataError
from recloom.llm.texts.item_text import item_text, record_lines, text_records

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "title": ["Heat", " ", None],
        "year": [1995, 1979, None],
        "genres": [["Crime", None, "Noir"], [], None],
        "note": ["one\u200b  two\n\x07three", None, ""],
        "vector": [[1.0], [2.0], [3.0]],
        "num_interactions": [3, 2, 1],
    }
)


def test_every_attribute_becomes_text_and_what_says_nothing_is_left_out():
    found = text_records(ITEMS)
    assert found == {
        "a": {"title": "Heat", "year": "1995", "genres": "Crime, Noir", "note": "one two three"},
        "b": {"year": "1979"},
    }
    assert record_lines(found["a"])[:2] == ["title: Heat", "year: 1995"]
    assert text_records(ITEMS, ["title"]) == {"a": {"title": "Heat"}}


def test_the_text_of_an_item_shows_numbers_and_lists_and_is_empty_where_nothing_is_said():
    assert item_text(ITEMS) == {
        "a": "title: Heat; year: 1995; genres: Crime, Noir; note: one two three", "b": "year: 1979", "c": ""
    }  # fmt: skip
    assert item_text(ITEMS, ["genres", "title"])["a"] == "genres: Crime, Noir; title: Heat"
    with pytest.raises(DataError, match=r"no column 'plot'; they have title, year, genres, note\. Name some"):
        item_text(ITEMS, ["plot"])
    assert item_text(ITEMS.select("item_id")) == {"a": "", "b": "", "c": ""}


def test_an_encoder_reads_lists_too_and_structures_are_left_out():
    table = ITEMS.with_columns(
        pl.struct("year").alias("made"), pl.col("title").cast(pl.Binary).alias("poster")
    )
    assert Catalog(ITEMS).texts(["title", "genres"]) == ["Heat. Crime, Noir", "", ""]
    assert text_records(table)["b"] == {"year": "1979"}
    with pytest.raises(DataError, match="no column 'made'"):
        text_records(table, ["made"])
    with pytest.raises(DataError, match=r"the column 'made' holds Struct.*which is no text"):
        Catalog(table).texts(["made"])


def test_users_have_records_too():
    assert text_records(pl.DataFrame({"user_id": ["u"], "age": [30]})) == {"u": {"age": "30"}}
    assert text_records(pl.DataFrame({"user_id": ["u"]})) == {}


def test_columns_that_are_not_there_or_count_held_out_rows_are_refused():
    with pytest.raises(DataError, match="items have no column 'plot'; they have title, year, genres, note"):
        text_records(ITEMS, ["plot"])
    with pytest.raises(DataError, match="'num_interactions' was computed over held-out interactions too"):
        text_records(ITEMS, ["num_interactions"])
    with pytest.raises(DataError, match="users have no column 'age'; they have none"):
        text_records(pl.DataFrame({"user_id": ["u"]}), ["age"])
