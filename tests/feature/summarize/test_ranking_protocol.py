"""How LLM-TRSR's yes-probabilities are measured: 21 candidates, one of them right."""

from __future__ import annotations

import pytest
import torch
from recloom.data.batches.candidates import sampled_candidates
from recloom.data.interactions import Interactions
from recloom.metrics.accumulator import MetricAccumulator
from recloom.plugins import collect

CANDIDATES = 21
METRICS = ("recall@3", "recall@5", "recall@10", "mrr@3", "mrr@5", "mrr@10")


def measured(scores, targets):
    meter = MetricAccumulator(METRICS, collect("register_metrics"))
    meter.update(scores, targets=targets[:, None], candidates=torch.arange(1, CANDIDATES + 1)[None])
    return {name: float(value) for name, value in meter.compute().items()}


@pytest.mark.parametrize("place", range(CANDIDATES))
@pytest.mark.fact("A7.2")
def test_a_constant_scorer_gains_nothing_wherever_the_positive_is_stored(place):
    """Ties count against the model, so it gets 0; broken at random they would give 3, 5 and 10 of 21."""
    found = measured(torch.zeros(4, CANDIDATES), torch.full((4,), place))
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("place", [0, 20])
@pytest.mark.fact("A7.2")
def test_a_random_scorer_gets_what_chance_gives(place):
    torch.manual_seed(1)
    rows = 60_000
    found = measured(torch.rand(rows, CANDIDATES), torch.full((rows,), place))
    expected = [3 / 21, 5 / 21, 10 / 21, 0.0873, 0.1087, 0.1395]
    assert list(found.values()) == pytest.approx(expected, abs=0.006)


@pytest.mark.fact("A7.8")
def test_the_target_and_the_history_are_never_negatives():
    """Twenty of thirty items, for 300 users with nine items each: hardly more than twenty are left to be drawn."""
    torch.manual_seed(0)
    users, items, length = 300, 30, 10
    rows = torch.stack([torch.randperm(items)[:length] + 1 for _ in range(users)])
    rows[:, 5] = rows[:, 0]
    stops = torch.arange(users + 1) * length
    starts = (stops - length).clamp(min=0)
    flat, times = rows.flatten().int(), torch.arange(users * length)
    everything = Interactions(flat, times, starts, stops, items)
    held_out = everything.select(torch.arange(users * length) % length == length - 1)
    train = everything.select(torch.arange(users * length) % length != length - 1)
    drawn = sampled_candidates("uniform-20", held_out, train, everything, seed=1)[1:]  # (U, 1 + 20)
    assert torch.equal(drawn[:, 0], rows[:, -1])
    negatives = drawn[:, 1:]
    assert not (negatives[:, :, None] == rows[:, None]).any()
    assert (negatives > 0).all()
    assert all(len(set(row)) == 20 for row in negatives.tolist())
