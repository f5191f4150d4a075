"""Codes by first appearance and stable order, against the plain definitions."""

import numpy as np
import polars as pl
import pytest
from recloom.data.prepare.encode import (
    as_numbers,
    factorise,
    gathered,
    in_order,
    positions,
    repeats,
    rows_each,
)

IDS = [
    ["7", "3", "7", "0", "3"], ["07", "7", "7"], ["b", "a", "b"], ["7", "x"], ["-1", "5"], ["+5", "5"],
    [" 5", "5"], ["99999999999999999999", "1"], ["4000000000", "1"], [], ["0"], ["10", "9", "100", "9"],
]  # fmt: skip


@pytest.mark.parametrize("ids", IDS)
def test_factorise_is_exact_and_in_order_of_appearance(ids):
    codes, values = factorise(pl.Series(ids, dtype=pl.String))
    distinct = list(dict.fromkeys(ids))
    assert values.to_list() == distinct
    assert codes.tolist() == [distinct.index(one) for one in ids]
    assert codes.dtype == np.uint32


@pytest.mark.parametrize("ids", IDS)
def test_only_canonical_numbers_of_modest_size_become_numbers(ids):
    found = as_numbers(pl.Series(ids, dtype=pl.String))
    plain = [one for one in ids if one.isdigit() and str(int(one)) == one and int(one) <= 10_000_000]
    assert found.dtype == (pl.Int64 if ids and plain == ids else pl.String)
    assert found.cast(pl.String).to_list() == ids
    assert factorise(found)[1].to_list() == list(dict.fromkeys(ids))


def test_numbers_of_which_no_row_is_left_have_no_codes():
    codes, values = factorise(pl.Series([], dtype=pl.Int64))
    assert (len(codes), values.to_list(), values.dtype) == (0, [], pl.String)


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
@pytest.mark.parametrize("times", [1, 3, 10**9, 2**62])
def test_order_is_by_user_then_time_and_stable(size, times):
    random = np.random.default_rng(size)
    users = random.integers(0, 20, size).astype(np.uint32)
    time = random.integers(-5, times, size)
    assert in_order(users, time).tolist() == np.lexsort((time, users)).tolist()
    assert in_order(users, None).tolist() == np.argsort(users, kind="stable").tolist()


def test_columns_are_gathered_whatever_their_type_and_parts():
    parts = pl.concat([pl.Series(["a", None]), pl.Series(["c"])], rechunk=False)
    rows, none, one = (np.array(places, np.uint32) for places in ([2, 0, 2, 1], [0, 0, 0, 0], [0]))
    found = gathered({"a": (parts, rows), "b": (pl.Series([1, 2, 3]), rows), "c": (pl.Series([7]), none)})
    assert found.to_dict(as_series=False) == {
        "a": ["c", "a", "c", None], "b": [3, 1, 3, 2], "c": [7, 7, 7, 7]
    }  # fmt: skip
    assert gathered({"c": (pl.Series([7]), one)}).rows() == [(7,)]
    assert gathered({"c": (pl.Series([], dtype=pl.String), none[:0])}).shape == (0, 1)


def test_positions_and_repeats():
    users = np.array([0, 0, 0, 0, 1, 1, 1], np.uint32)
    assert rows_each(users, 2).tolist() == [4, 3]
    assert rows_each(users[:0], 0).tolist() == []
    items = np.array([5, 6, 5, 5, 5, 5, 6], np.uint32)
    times = np.array([1, 1, 1, 2, 2, 3, 3])
    assert positions(users).tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert repeats(users, items, times).tolist() == [2]
    assert positions(users[:0]).tolist() == repeats(users[:0], items[:0], times[:0]).tolist() == []
