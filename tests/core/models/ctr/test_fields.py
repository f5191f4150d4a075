"""Columns of the catalogue as embedded fields."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from recloom.errors import RecloomError
from recloom.models.ctr.fields import Fields, codes_of, default_columns

TABLE = pl.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(6)],
        "title": [f"a film of its own {n}" for n in range(6)],
        "genres": ["Drama|Comedy", "Comedy", "", None, "War | Drama|War", "Comedy"],
        "year": [1990, 1991, None, 1993, 1994, 1995],
        "colour": [True, False, True, True, True, None],
        "vector": [[1.0]] * 6,
    }
)


def test_categories_are_numbered_in_order_and_nothing_is_zero():
    assert codes_of(TABLE["genres"]).tolist() == [[0, 0], [2, 1], [1, 0], [0, 0], [0, 0], [3, 2], [1, 0]]
    assert codes_of(TABLE["colour"]).tolist() == [[0], [2], [1], [2], [2], [2], [0]]


def test_numbers_fall_between_the_quantiles_of_their_column():
    codes = codes_of(pl.Series("n", [*range(100), None], dtype=pl.Float64))[:, 0]
    assert codes[0] == codes[-1] == 0
    assert torch.bincount(codes)[1:].tolist() == [10] * 10
    assert (codes[1:-1].diff() >= 0).all()
    assert codes_of(pl.Series("same", [7, 7, 7]))[1:, 0].unique().numel() == 1
    assert codes_of(pl.Series("none", [None, None], dtype=pl.Int64)).tolist() == [[0], [0], [0]]


def test_long_texts_and_vectors_are_no_fields_by_default():
    assert default_columns(TABLE) == ["item_id", "genres", "year", "colour"]


def test_a_count_of_all_interactions_is_never_a_field():
    users = pl.DataFrame({"user_id": ["a", "b"], "num_interactions": [3, 4]})
    assert default_columns(users) == ["user_id"]
    with pytest.raises(RecloomError, match="'num_interactions' was computed over held-out"):
        Fields(users, ["num_interactions"], 2)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["mood"], "no column 'mood'.*the table of item_id has item_id, title, genres"),
        (["vector"], "column 'vector' holds List"),
        (["year", "year"], "different columns; found year, year"),
    ],
)
def test_bad_columns_are_refused(columns, message):
    with pytest.raises(RecloomError, match=message):
        Fields(TABLE, columns, 2)


def test_vectors_of_several_categories_are_averaged():
    fields = Fields(TABLE, ["genres", "colour"], 2)
    with torch.no_grad():
        fields.vectors[0].weight[1:] = torch.tensor([[1.0, 1.0], [3.0, 0.0], [0.0, 8.0]])
        fields.vectors[1].weight[1:] = torch.tensor([[5.0, 5.0], [7.0, 7.0]])
    found = fields(torch.tensor([[1, 5], [0, 3]]))  # (2, 2) to (2, 2, F, 2)
    assert found.tolist() == [[[[2, 0.5], [7, 7]], [[1.5, 4], [7, 7]]], [[[0, 0], [0, 0]], [[0, 0], [7, 7]]]]


def test_an_id_without_training_interactions_is_unknown():
    fields = Fields(TABLE, ["item_id", "genres"], 2)
    fields.learn(torch.tensor([0, 4, 0, 1, 1, 1, 1]))
    found = fields(torch.tensor([1, 2]))
    assert found[0, 0].any()
    assert not found[1, 0].any()  # no vector of its own
    assert found[1, 1].any()  # known by its genre


def test_known_ids_are_part_of_the_state():
    fields, again = (Fields(TABLE, None, 2) for _ in range(2))
    fields.learn(torch.tensor([0, 4, 0, 1, 1, 1, 1]))
    again.load_state_dict(fields.state_dict())
    assert torch.equal(again(torch.arange(7)), fields(torch.arange(7)))
