"""Scores, masks and columns by plain computations, row by row."""

from __future__ import annotations

from functools import cache

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.llm import LLMOptions
from recloom.recommender import Recommender
from recloom.training.ranking import (
    list_columns,
    mask_items,
    masked_items,
    retrieves,
    scores_of_lists,
    served_lists,
    served_scores,
    target_columns,
    unknown_users,
    without,
)
from torch import tensor

LOST = float("-inf")
POPULARITY = tensor([0.0, 3.0, 9.0, 1.0, 7.0, 2.0])
ALL = torch.arange(1, 6)[None]


@cache
def catalog():
    return Catalog(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(1, 6)]}),
        pl.DataFrame({"user_id": ["u1", "u2", "u3"]}),
    )


class ByNumber(Recommender):
    """Item n scores n."""

    inputs = ("user", "history")

    def score(self, batch):
        return batch.candidates.float().expand(len(batch), -1).clone()


class ByHistory(ByNumber):
    inputs = ("history",)


class ByUser(ByNumber):
    inputs = ("user",)


class OfFew(ByNumber):
    """Knows user 1 alone."""

    def knows_users(self, users):
        return users == 1


class OfNobody(ByNumber):
    inputs = ("context",)


class Lists(ByNumber):
    """Retrieves the two highest numbers that are allowed."""

    def retrieve(self, batch, k):
        items = batch.candidates.sort(1, descending=True).values[:, : min(k, 2)]
        return items, items.float()


def requests(candidates=ALL, history=((1, 2), (0, 0), (0, 0), (0, 4)), users=(1, 2, 0, 0), **more):
    return Batch.of(tensor(history), user=tensor(users), candidates=candidates, **more)


def test_who_is_unknown():
    rows = requests()
    assert unknown_users(ByNumber(catalog()), rows).tolist() == [False, False, True, False]
    assert unknown_users(ByHistory(catalog()), rows).tolist() == [False, True, True, False]
    assert unknown_users(OfNobody(catalog()), rows).tolist() == [False] * 4
    assert unknown_users(ByUser(catalog()), rows).tolist() == [False, False, True, True]
    assert unknown_users(OfFew(catalog()), rows).tolist() == [False, True, True, False]


def test_who_is_not_known_by_index_gets_what_is_popular():
    rows = requests(tensor([[3, 0, 2]]), ((0, 0), (0, 0)), (1, 2))
    assert served_scores(OfFew(catalog()), POPULARITY, rows).tolist() == [[3, LOST, 2], [1, LOST, 9]]


def test_popularity_stands_in_for_unknown_users_and_padding_is_lost():
    rows = requests(tensor([[3, 0, 2]]))
    assert served_scores(ByNumber(catalog()), POPULARITY, rows).tolist() == [
        [3, LOST, 2], [3, LOST, 2], [1, LOST, 9], [3, LOST, 2],
    ]  # fmt: skip
    known = requests(tensor([[3, 0, 2]]), ((1, 2),), (1,))
    assert served_scores(ByNumber(catalog()), POPULARITY, known).tolist() == [[3, LOST, 2]]


@pytest.mark.parametrize("kind", [ByNumber, Lists])
def test_lists_are_best_first_without_what_is_masked(kind):
    model, rows = kind(catalog()), requests()
    assert retrieves(model) == (kind is Lists)
    items, scores = served_lists(model, POPULARITY, rows, 3, masked_items(rows, True))
    third = [3, 5, 1, 3] if kind is ByNumber else [0, 0, 1, 0]  # of those that retrieve two
    assert items.tolist() == [
        [5, 4, third[0]],
        [5, 4, third[1] and 3],
        [2, 4, 1],
        [5, 3, 2 if third[3] else 0],
    ]
    expected = items.float().masked_fill(items == 0, LOST)
    expected[2] = tensor([9.0, 7.0, 3.0])  # the most popular
    assert torch.equal(scores, expected)
    items, scores = served_lists(model, POPULARITY, rows, 9, masked_items(rows, False))
    assert items.shape == (4, 5)
    assert items[2].tolist() == [2, 4, 1, 5, 3]


def test_an_unknown_user_gets_no_masked_and_no_padded_item():
    rows = requests(tensor([[0, 4, 2, 3]]), ((0, 0),), (0,))
    for kind in (ByNumber, Lists):
        items, scores = served_lists(kind(catalog()), POPULARITY, rows, 4, tensor([[4]]))
        assert items[0, :2].tolist() == [2, 3]
        assert scores.tolist() == [[9, 1, LOST, LOST]]


def test_what_is_masked():
    rows = requests()
    assert torch.equal(masked_items(rows, True), rows.history)
    assert masked_items(rows, False).shape == (4, 0)


@pytest.mark.parametrize(
    "candidates",
    [
        [[1, 2, 3, 4, 5]],  # the whole catalogue
        [[2, 3, 4, 5, 6]],  # as long as if it were
        [[1, 3, 2, 5, 9]],
        [[1, 2, 3, 5]],
        [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]],
        [[5, 0, 2, 0], [3, 1, 4, 0]],
        [[1, 5, 2, 3, 4]],  # all, but not in order
        [[1], [3]],
    ],
)
def test_masks_row_by_row(candidates):
    given, seen = tensor(candidates), tensor([[2, 0, 5], [0, 3, 3]])
    scores = torch.arange(2.0 * given.shape[1]).view(2, -1)
    expected = [
        [LOST if item and item in hidden else score for item, score in zip(items, row, strict=True)]
        for items, hidden, row in zip(
            given.expand(2, -1).tolist(), seen.tolist(), scores.tolist(), strict=True
        )
    ]
    assert mask_items(scores, given, seen).tolist() == expected
    left = [
        [0 if item in hidden else item for item in items]
        for items, hidden in zip(given.expand(2, -1).tolist(), seen.tolist(), strict=True)
    ]
    assert without(given, seen).tolist() == left
    assert torch.equal(mask_items(scores, given, seen[:, :0]), scores)


def test_columns_of_targets_among_any_candidates():
    labels = tensor([[4, 0], [2, 5]])
    assert target_columns(requests(labels=labels), 5).tolist() == [[3, -1], [1, 4]]
    some = requests(tensor([[0, 5, 2], [5, 4, 0]]), ((1, 1), (1, 1)), (1, 2), labels=labels)
    assert target_columns(some, 5).tolist() == [[-1, -1], [-1, 0]]
    shared = requests(tensor([[2, 1, 4, 3, 5]]), ((1, 1), (1, 1)), (1, 2), labels=labels)
    assert target_columns(shared, 6).tolist() == [[2, -1], [0, 4]]


def test_columns_of_lists_and_the_scores_that_keep_their_order():
    candidates = tensor([[0, 7, 2, 5], [4, 3, 6, 1]])
    columns = list_columns(tensor([[5, 7, 0], [6, 4, 3]]), candidates, "X")
    assert columns.tolist() == [[3, 1, -1], [2, 0, 1]]
    assert scores_of_lists(columns, 4).tolist() == [[LOST, 2, LOST, 3], [2, 1, 3, LOST]]


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        ([[9, 2]], "no candidate of its request, or is masked"),
        ([[1, 2]], "no candidate of its request, or is masked"),
        ([[2, 2]], "an item twice in one list"),
        ([[7, 5, 2, 7]], "an item twice in one list"),
    ],
)
def test_lists_that_cannot_be(items, fault):
    with pytest.raises(RecloomError, match=f"of X gave an item.*|{fault}") as refusal:
        list_columns(tensor(items), tensor([[7, 2, 5]]), "X")
    assert fault in f"gave {refusal.value}"
    assert list_columns(tensor([[0, 7, 0, 2]]), tensor([[7, 2, 5]]), "X").tolist() == [[-1, 0, -1, 1]]


def test_masks_of_one_row_are_those_of_no_other():
    draw = torch.Generator().manual_seed(0)
    candidates, seen = (torch.randint(1, 6, (60, n), generator=draw) for n in (4, 2))
    expected = (candidates[:, :, None] == seen[:, None]).any(2)
    assert torch.equal(mask_items(torch.zeros(60, 4), candidates, seen).isneginf(), expected)


def test_a_recommender_that_asks_a_language_model_is_not_asked_for_unknown_users():
    class Asks(ByNumber):
        def __init__(self, known):
            super().__init__(known)
            self.llm, self.asked = object.__new__(LLMOptions), []

        def score(self, batch):
            self.asked.append(batch.user.tolist())
            return super().score(batch)

    model, rows = Asks(catalog()), requests(tensor([[3, 0, 2]]))
    assert torch.equal(
        served_scores(model, POPULARITY, rows), served_scores(ByNumber(catalog()), POPULARITY, rows)
    )
    assert model.asked == [[1, 2, 0]]  # the third of four is unknown
    nobody = requests(tensor([[3, 0, 2]]), ((0, 0),), (0,))
    assert served_scores(model, POPULARITY, nobody).tolist() == [[1, LOST, 9]]
    assert len(model.asked) == 1
