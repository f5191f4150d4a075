"""Attributes of items and users as prompts show them."""

import polars as pl
import pytest
from recloom.errors import DataError
from recloom.llm.texts.item_text import lines_of, records_of

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
    found = records_of(ITEMS)
    assert found == {
        "a": {"title": "Heat", "year": "1995", "genres": "Crime, Noir", "note": "one two three"},
        "b": {"year": "1979"},
    }
    assert lines_of(found["a"])[:2] == ["title: Heat", "year: 1995"]
    assert records_of(ITEMS, ["title"]) == {"a": {"title": "Heat"}}


def test_users_have_records_too():
    assert records_of(pl.DataFrame({"user_id": ["u"], "age": [30]})) == {"u": {"age": "30"}}
    assert records_of(pl.DataFrame({"user_id": ["u"]})) == {}


def test_columns_that_are_not_there_or_count_held_out_rows_are_refused():
    with pytest.raises(DataError, match="items have no column 'plot'; they have title, year, genres, note"):
        records_of(ITEMS, ["plot"])
    with pytest.raises(DataError, match="'num_interactions' was computed over held-out interactions too"):
        records_of(ITEMS, ["num_interactions"])
    with pytest.raises(DataError, match="users have no column 'age'; they have none"):
        records_of(pl.DataFrame({"user_id": ["u"]}), ["age"])
