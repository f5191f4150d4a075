"""Which pairs are asked, and what two answers to one pair say; the facts are those of card A2."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from recloom.errors import DataError
from recloom.llm.texts.histories import read_training
from recloom.schemas import SplitSpec
from recloom_feature.simulate.preferences import Choice, PairDecision, by_answers, by_scores, draw_pairs

NOBODY = pl.DataFrame({"user_id": [], "item_id": []}, schema={"user_id": pl.String, "item_id": pl.String})


def logs(*shares):
    return [math.log(share) for share in shares]


def test_answers_must_differ_when_the_order_does():
    assert by_answers("A", "B") == PairDecision(True, False)
    assert by_answers("B", "A") == PairDecision(False, False)
    assert by_answers("A", "A") == by_answers("B", "B") == PairDecision(None, True)


def test_scores_of_both_orders_are_averaged():
    """First item: (log .8 + log .6) / 2; second: (log .2 + log .4) / 2; their gap is log(.48 / .08) / 2."""
    found = by_scores(logs(0.8, 0.2), logs(0.4, 0.6), "drop")
    assert (found.first, found.same_letter) == (True, False)
    assert found.confidence == pytest.approx(1 / (1 + (0.08 / 0.48) ** 0.5))
    mirrored = by_scores(logs(0.4, 0.6), logs(0.8, 0.2), "drop")
    assert (mirrored.first, mirrored.confidence) == (False, pytest.approx(found.confidence))


def test_disagreement_is_dropped_or_decided_by_the_average():
    """A model that likes the letter A, and the first item a little more: .9 as A, .3 as B."""
    forth, back = logs(0.9, 0.1), logs(0.7, 0.3)
    assert by_scores(forth, back, "drop") == PairDecision(None, True)
    found = by_scores(forth, back, "calibrate")
    assert (found.first, found.same_letter) == (True, True)
    assert found.confidence == pytest.approx(1 / (1 + (0.07 / 0.27) ** 0.5))


def test_a_tie_prefers_nothing():
    assert by_scores(logs(0.9, 0.1), logs(0.9, 0.1), "calibrate") == PairDecision(None, True)
    assert by_scores(logs(0.5, 0.5), logs(0.2, 0.8), "drop") == PairDecision(None, False)


@pytest.mark.parametrize("answer", [{"answer": "C"}, {"answer": "a"}, {}, {"answer": "A", "why": "x"}])
def test_an_answer_is_closed_to_two_letters(answer):
    with pytest.raises(ValidationError):
        Choice.model_validate(answer)


def test_each_user_gets_different_pairs_and_the_seed_decides():
    cold, users = [f"c{n}" for n in range(6)], [f"u{n}" for n in range(50)]
    drawn = draw_pairs(users, cold, NOBODY, 4, np.random.default_rng(3))
    assert drawn == draw_pairs(users, cold, NOBODY, 4, np.random.default_rng(3))
    assert drawn != draw_pairs(users, cold, NOBODY, 4, np.random.default_rng(4))
    assert [user for user, _, _ in drawn] == [user for user in users for _ in range(4)]
    assert len({(user, frozenset(pair)) for user, *pair in drawn}) == 200
    assert all(a != b for _, a, b in drawn)
    counts = np.unique([item for _, *pair in drawn for item in pair], return_counts=True)[1]
    assert len(counts) == 6
    assert counts.min() > 400 / 6 * 0.7


def test_a_user_with_few_pairs_gets_what_there_is():
    assert len(draw_pairs(["u"], ["a", "b", "c"], NOBODY, 5, np.random.default_rng(0))) == 3
    assert len(draw_pairs(["u"], ["a", "b"], NOBODY, 5, np.random.default_rng(0))) == 1


@pytest.mark.fact("A2.5")
def test_no_pair_holds_an_item_that_its_user_meets_in_a_held_out_row():
    cold, users = ["a", "b", "c", "d"], ["u", "v"]
    held_out = pl.DataFrame({"user_id": ["u", "u", "w"], "item_id": ["a", "x", "b"]})
    for seed in range(20):
        drawn = draw_pairs(users, cold, held_out, 6, np.random.default_rng(seed))
        assert {item for user, *pair in drawn if user == "u" for item in pair} == {"b", "c", "d"}
        assert {item for user, *pair in drawn if user == "v" for item in pair} == set(cold)
    both = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["a", "b", "c"]})
    assert draw_pairs(["u"], cold, both, 3, np.random.default_rng(0)) == []


@pytest.mark.fact("A2.1")
def test_cold_items_occur_after_the_cut_only(tmp_path, write_dataset):
    """a b a c d a b | e a f: e and f are cold, a stands on both sides."""
    frame = pl.DataFrame({"user_id": ["u", "v"] * 5, "item_id": list("abacdabeaf"), "timestamp": range(10)})
    data = write_dataset(tmp_path / "data", frame)
    found = read_training(data, SplitSpec(strategy="time", valid=0, test=0.3))
    assert found.cold_items() == ["e", "f"]
    assert sorted(found.train["item_id"]) == sorted("abacdab")
    assert sorted(found.held_out["item_id"]) == sorted("eaf")


@pytest.mark.fact("A2.1")
def test_rows_of_one_moment_are_never_divided(tmp_path, write_dataset):
    """The cut would fall among three rows of time 6: all of them are later than it, in whatever order they stand."""
    times = [0, 1, 2, 3, 4, 5, 6, 6, 6, 9]
    rows = [("u", item, time) for item, time in zip("abacdabeaf", times, strict=True)]
    cold = []
    for name, order in (("one", rows), ("other", [*rows[:6], *reversed(rows[6:9]), rows[9]])):
        frame = pl.DataFrame(order, schema=["user_id", "item_id", "timestamp"], orient="row")
        found = read_training(
            write_dataset(tmp_path / name, frame), SplitSpec(strategy="time", valid=0, test=0.3)
        )
        assert len(found.train) == 6
        cold.append(found.cold_items())
    assert [sorted(one) for one in cold] == [["e", "f"]] * 2


@pytest.fixture
def two_users(tmp_path, write_dataset):
    frame = pl.DataFrame(
        {
            "user_id": ["v", "u", "v", "u", "u", "v"],
            "item_id": ["a", "b", "c", "d", "a", "e"],
            "timestamp": [5, 9, 1, 3, 10, 11],
        }
    )
    return write_dataset(tmp_path / "two", frame)


def test_histories_are_in_order_with_the_numbers_of_their_rows(two_users):
    found = read_training(two_users, SplitSpec(strategy="time", valid=0, test=0.34))
    stored = pl.read_parquet(two_users / "interactions.parquet")
    mine = {one.user: one for one in found.histories(["u", "v"])}
    assert mine["u"].items == ["d", "b"]
    assert mine["v"].items == ["c", "a"]
    for one in mine.values():
        assert stored[one.rows]["item_id"].to_list() == one.items
        assert set(stored[one.rows]["user_id"]) == {one.user}
    assert mine["u"].last(1).items == ["b"]
    assert len(mine["u"].last(1).rows) == 1


def test_a_share_of_the_users_is_drawn_by_the_seed(two_users):
    found = read_training(two_users, SplitSpec(strategy="time", valid=0, test=0.34))
    assert found.users(1.0, 0) == ["v", "u"] or found.users(1.0, 0) == ["u", "v"]
    assert {found.users(0.5, seed)[0] for seed in range(20)} == {"u", "v"}
    assert found.users(0.5, 3) == found.users(0.5, 3)
    with pytest.raises(DataError, match=r"--users is a share.*found 0"):
        found.users(0.0, 0)
