"""Ranks by popularity without a pass over the catalogue are those of scoring every item by its count."""

from __future__ import annotations

import pytest
import torch
from recloom.metrics import core_metrics
from recloom.metrics.accumulator import MetricAccumulator
from recloom.metrics.functional import MISSED, ranks
from recloom.metrics.popularity_ranks import PopularityRanks
from recloom.metrics.segments import item_segments
from recloom.training import mask_items

METRICS = {metric.name: metric for metric in core_metrics()}
NAMES = ["ndcg@3", "recall@20", "mrr"]


def requests(random, rows, num_items, width, length):
    """Targets, distinct within a row and some of them masked, and masked items, many of them twice."""
    order = torch.rand(rows, num_items, generator=random).argsort(1) + 1
    targets = order[:, :width] * (torch.rand(rows, width, generator=random) < 0.8)
    places = torch.randint(width - 1, num_items, (rows, length), generator=random)
    masked = order.gather(1, places)
    return targets, masked * (torch.rand(rows, length, generator=random) < 0.7)


@pytest.mark.parametrize(("width", "length"), [(1, 0), (1, 30), (3, 7), (6, 60), (25, 60)])
@pytest.mark.parametrize("most", [1, 3, 1000])
def test_they_are_those_of_scores_with_many_ties(width, length, most):
    random = torch.Generator().manual_seed(width + most)
    counts = torch.randint(0, most, (41,), generator=random).float()
    targets, masked = requests(random, 50, 40, width, length)
    candidates = torch.arange(1, 41)[None]
    scores = mask_items(counts[1:].expand(50, -1), candidates, masked)
    wanted = ranks(scores, targets - 1)
    found = PopularityRanks(counts)(targets, masked)
    assert torch.equal(found, wanted)
    if length:
        assert (found == MISSED).any(), "some target is masked"
    segments = item_segments(counts)
    direct, fast = (MetricAccumulator(NAMES, METRICS, segments=segments) for _ in range(2))
    new = (masked == 0).all(1)
    direct.update(scores, targets - 1, candidates, new=new)
    fast.update_ranks(found, targets, new=new)
    assert fast.compute() == pytest.approx(direct.compute(), nan_ok=True)


def test_a_tie_and_a_masked_item_by_hand():
    by_count = PopularityRanks(torch.tensor([0.0, 5, 2, 9, 5, 0]))
    targets = torch.tensor([[4], [4], [4], [2], [5]])
    masked = torch.tensor([[0, 0], [3, 3], [4, 0], [1, 2], [0, 4]])
    assert by_count(targets, masked)[:, 0].tolist() == [3, 2, MISSED, MISSED, 4]
