import math

import numpy as np
import pytest
import torch
from recloom.errors import RecloomError
from recloom.metrics import ItemFacts, Metric, core_metrics, parse_metric
from recloom.metrics import functional as f
from recloom.metrics.accumulator import MetricAccumulator

METRICS = {metric.name: metric for metric in core_metrics()}
FACTS = ItemFacts(
    num_items=50,
    popularity=torch.arange(51),
    vectors=torch.randn(51, 4, generator=torch.Generator().manual_seed(0)),
    categories=torch.arange(51) % 3,
)
CATALOGUE = torch.arange(1, 51)[None]


def requests(seed, rows=40, width=4):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(rows, 50, generator=generator)
    targets = torch.rand(rows, 50, generator=generator).argsort(1)[:, :width]
    return scores, targets.masked_fill(torch.rand(rows, width, generator=generator) < 0.4, -1)


def test_every_metric_of_core_can_be_asked_for():
    names = [name if metric.cutoff == "none" else f"{name}@5" for name, metric in METRICS.items()]
    assert len(names) == 17
    meter = MetricAccumulator(names, METRICS, FACTS)
    scores, _ = requests(0)
    labels = (torch.rand(40, 50, generator=torch.Generator().manual_seed(1)) < 0.1).float()
    meter.update(scores, labels=labels, candidates=CATALOGUE, users=torch.arange(40) // 2)
    values = meter.compute()
    assert list(values) == names
    assert all(math.isfinite(value) for value in values.values())
    assert {"coverage@5", "gini@5", "auc", "gauc", "log_loss"} == set(values) - set(meter.per_user())
    assert meter.lower_is_better == {"log_loss", "gini@5", "popularity_bias@5"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("ndgc@10", r"metric 'ndgc@10': expected one of ndcg, .*auc.*recall.*; found 'ndgc'"),
        ("zzz", r"expected one of auc, average|expected one of auc, category_diversity"),
        ("recall", r"'recall': expected a cutoff, found none; write for example recall@10"),
        ("auc@5", r"'auc@5': expected no cutoff, found @5; write auc"),
        ("ndcg@ten", r"'ndcg@ten': expected a whole number above 0 after @, found 'ten'"),
        ("ndcg@0", r"found '0'"),
        ("ndcg@", r"found ''"),
    ],
)
def test_a_name_that_does_not_fit_is_an_error(asked, message):
    with pytest.raises(RecloomError, match=message):
        parse_metric(asked, METRICS)


def test_missing_facts_are_named():
    with pytest.raises(RecloomError, match=r"'novelty@10': expected ItemFacts with popularity, found none"):
        MetricAccumulator(["novelty@10"], METRICS, ItemFacts(num_items=3))
    with pytest.raises(RecloomError, match=r"'coverage@10': expected ItemFacts with num_items"):
        MetricAccumulator(["coverage@10"], METRICS)


def test_an_update_without_what_a_metric_needs_is_an_error():
    scores, targets = requests(0)
    with pytest.raises(RecloomError, match=r"either targets or labels, found both or neither"):
        MetricAccumulator(["mrr"], METRICS).update(scores)
    with pytest.raises(
        RecloomError, match=r"auc, gauc need candidates with a label each, found held-out items"
    ):
        MetricAccumulator(["mrr", "auc", "gauc"], METRICS).update(scores, targets)
    with pytest.raises(RecloomError, match=r"expected candidates, the item ids of the columns, found none"):
        MetricAccumulator(["coverage@3"], METRICS, FACTS).update(scores, targets)
    with pytest.raises(RecloomError, match=r"expected at least one batch, found none"):
        MetricAccumulator(["mrr"], METRICS).compute()


@pytest.mark.parametrize(
    "names", [["ndcg@5"], ["ndcg@5", "mrr"], ["ndcg@5", "coverage@3"], ["mrr", "coverage@3"]]
)
@pytest.mark.parametrize("width", [1, 3, 4, 12])
def test_the_way_ranks_are_found_does_not_show(names, width):
    scores, targets = requests(width, width=width)
    scores[::3] = (scores[::3] * 4).round()
    meter = MetricAccumulator(names, METRICS, FACTS)
    for rows in torch.arange(40).split(7):
        meter.update(scores[rows], targets[rows], candidates=CATALOGUE)
    found, ranks = meter.per_user(), f.ranks(scores, targets)
    np.testing.assert_allclose(
        found["ndcg@5"] if "ndcg@5" in found else found["mrr"],
        f.ndcg(ranks, 5) if "ndcg@5" in found else f.mrr(ranks, None),
    )
    if "mrr" in names:
        np.testing.assert_allclose(found["mrr"], f.mrr(ranks, None))


def test_users_without_relevant_items_are_undefined_not_zero():
    meter = MetricAccumulator(["recall@1"], METRICS)
    meter.update(
        torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([[0], [-1]]), users=torch.tensor([8, 3])
    )
    assert meter.compute() == {"recall@1": 1.0}
    np.testing.assert_array_equal(meter.per_user()["recall@1"], [1, np.nan])
    assert meter.users.tolist() == [8, 3]
    empty = MetricAccumulator(["recall@1", "mrr@1"], METRICS)
    empty.update(torch.rand(2, 3), torch.empty(2, 0, dtype=torch.int64))
    assert all(math.isnan(value) for value in empty.compute().values())


def test_lists_hold_the_best_items_and_no_masked_or_broken_one():
    seen = []
    spy = Metric(name="spy", needs="top", function=lambda top, n: seen.append(top) or top.sum(1).double())
    meter = MetricAccumulator(["spy@3"], {"spy": spy}, FACTS)
    scores = torch.tensor([[0.1, 0.9, -math.inf, 0.5], [0.3, math.nan, -math.inf, -math.inf]])
    meter.update(scores, torch.tensor([[0], [0]]), candidates=torch.tensor([[7, 8, 9, 10]]))
    assert seen[0].tolist() == [[8, 10, 7], [7, 0, 0]]
    meter.update(scores[:1, :2], torch.tensor([[0]]), candidates=torch.tensor([[4, 0]]))
    assert seen[1].tolist() == [[4, 0, 0]]


def test_candidate_lists_of_an_impression_log():
    names = ["impression_auc", "impression_mrr", "ndcg@5", "auc", "hit@1", "coverage@5"]
    meter = MetricAccumulator(names, METRICS, FACTS)
    meter.update(
        torch.tensor([[0.9, 0.8, 0.1, 7.0], [0.2, 0.4, 0.1, 0.3]]),
        labels=torch.tensor([[0.0, 1, 1, 1], [0, 1, 0, 0]]),
        candidates=torch.tensor([[11, 12, 13, 0], [14, 15, 16, 17]]),
        users=torch.tensor([5, 5]),
    )
    meter.update(
        torch.tensor([[1.0, 2.0]]), labels=torch.tensor([[1.0, 1.0]]), candidates=torch.tensor([[11, 12]])
    )
    rows = meter.per_user()
    np.testing.assert_allclose(rows["impression_auc"], [0, 1, np.nan])
    np.testing.assert_allclose(rows["impression_mrr"], [0.4167, 1, 0.75], atol=5e-5)
    np.testing.assert_allclose(rows["ndcg@5"], [0.6934, 1, 1], atol=5e-5)
    values = meter.compute()
    assert values["impression_auc"] == 0.5
    scores, labels = [0.9, 0.8, 0.1, 0.2, 0.4, 0.1, 0.3, 1, 2], [0, 1, 1, 0, 1, 0, 0, 1, 1]
    assert values["auc"] == pytest.approx(f.auc(torch.tensor(scores), torch.tensor(labels)).item())
    assert values["hit@1"] == pytest.approx(2 / 3)
    assert values["coverage@5"] == 7 / 50


def test_gauc_groups_the_rows_of_a_user():
    meter = MetricAccumulator(["gauc", "log_loss"], METRICS)
    meter.update(
        torch.tensor([[1.0], [2.0], [3.0], [0.5]]),
        labels=torch.tensor([[0.0], [1.0], [0.0], [1.0]]),
        users=torch.tensor([1, 1, 2, 2]),
    )
    assert meter.compute()["gauc"] == 0.5


def test_meters_of_two_processes_merge_into_one():
    names = ["ndcg@5", "impression_auc", "gauc", "coverage@3", "novelty@3"]
    scores, _ = requests(0)
    labels = (torch.rand(40, 50, generator=torch.Generator().manual_seed(1)) < 0.1).float()
    parts = [MetricAccumulator(names, METRICS, FACTS) for _ in range(3)]
    for meter, rows in zip(parts, (range(40), range(15), range(15, 40)), strict=True):
        meter.update(scores[rows], labels=labels[rows], candidates=CATALOGUE)
    whole, first, second = parts
    first.merge(second.state())
    assert first.compute() == pytest.approx(whole.compute())
    assert first.users.tolist() == list(range(40))
    for name, values in whole.per_user().items():
        np.testing.assert_allclose(first.per_user()[name], values)


@pytest.mark.parametrize("names", [["hit@2"], ["hit@2", "coverage@2"], ["hit@2", "mrr"]])
@pytest.mark.parametrize("width", [1, 6])
def test_broken_scores_do_not_stop_the_meter_and_never_help(names, width):
    scores = torch.rand(3, 50)
    scores[0, 7], scores[1, :], scores[2, 49] = math.nan, math.nan, math.nan
    targets = torch.arange(width).expand(3, width).clone()
    scores[[0, 2], 0] = 2.0  # the best, but for NaN
    meter = MetricAccumulator(names, METRICS, FACTS)
    meter.update(scores, targets, candidates=CATALOGUE)
    ranks = f.ranks(scores, targets)
    assert ranks[[0, 2], 0].tolist() == [2, 2]
    assert meter.per_user()["hit@2"].tolist() == [1, 0, 1]


def test_reset_forgets():
    meter = MetricAccumulator(["mrr"], METRICS)
    for best in (0, 1):
        meter.reset()
        meter.update(torch.tensor([[1.0, 0.0]]), torch.tensor([[best]]))
    assert meter.compute() == {"mrr": 0.5}


def test_a_metric_of_a_plugin_is_asked_for_by_name():
    first = Metric(
        name="first", needs="ranks", function=lambda ranks, k: (ranks == 1).any(1).double(), cutoff="none"
    )
    meter = MetricAccumulator(["first"], METRICS | {"first": first})
    meter.update(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0], [0]]))
    assert meter.compute() == {"first": 0.5}


def test_a_constant_scorer_gains_nothing():
    meter = MetricAccumulator(["hit@10", "ndcg@10", "mrr", "impression_auc"], METRICS)
    meter.update(torch.zeros(50, 50), labels=torch.eye(50))
    assert meter.compute() == {"hit@10": 0, "ndcg@10": 0, "mrr": pytest.approx(1 / 50), "impression_auc": 0.5}
