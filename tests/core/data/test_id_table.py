"""Ids are found the same way whether few are asked for or many."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recloom.data.catalog import IdTable

IDS = ["b", "a", "ä", "", "a b", "B"]


@pytest.mark.parametrize("times", [1, 3])
def test_by_hand_few_and_many(times):
    asked = ["a", "b", "zzz", "", "B"] * times  # fewer than there are ids, then more
    assert IdTable(pl.Series(IDS)).index(asked).tolist() == [2, 1, 0, 4, 6] * times


def test_nothing_known_nothing_asked_and_what_is_null():
    assert IdTable(pl.Series([], dtype=pl.String)).index(["a", "b"]).tolist() == [0, 0]
    assert IdTable(pl.Series(IDS)).index([]).tolist() == []
    for times in (1, 9):
        asked = pl.Series([None, "a"] * times)
        assert IdTable(pl.Series(IDS)).index(asked).tolist() == [0, 2] * times


def test_numbers_are_asked_for_by_their_text():
    table = IdTable(pl.Series(["10", "2", "33", "4"]))
    assert table.index([2, 10, 5]).tolist() == table.index(pl.Series([2, 10, 5])).tolist() == [2, 1, 0]


@given(st.lists(st.text(), unique=True, min_size=1), st.lists(st.text()), st.data())
def test_both_ways_agree_with_a_dict(ids, others, data):
    asked = others + data.draw(st.lists(st.sampled_from(ids)))
    place = {name: at for at, name in enumerate(ids, 1)}
    table, text = IdTable(pl.Series(ids)), pl.Series(asked, dtype=pl.String)
    expected = np.array([place.get(name, 0) for name in asked], dtype=np.int64)
    assert (table._searched(text) == expected).all()
    assert (table._hashed(text) == expected).all()
