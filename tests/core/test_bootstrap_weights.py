"""AUC, GAUC and log loss where users are drawn with replacement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recloom.evaluation.results import write_results
from recloom.evaluation.significance import bounds_of_draws, intervals
from recloom.metrics import bootstrap_weights, core_metrics, functional
from recloom.metrics.accumulator import MetricAccumulator
from recloom.schemas import Protocol, SplitSpec

KINDS = {"auc": bootstrap_weights.auc, "gauc": bootstrap_weights.gauc, "log_loss": bootstrap_weights.log_loss}
METRICS = {metric.name: metric for metric in core_metrics()}
# user 0 likes the pair of score 3 and not that of 1; user 1 likes the pair of score 2 and not that of 4
SCORES, LABELS = torch.tensor([3.0, 1.0, 2.0, 4.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
USERS = torch.tensor([0, 0, 1, 1])
DRAWS = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0], [2.0, 1.0], [0.0, 0.0]]).double()


def cost(score, label):
    return math.log1p(math.exp(-score if label else score))


def test_draws_by_hand():
    # 3 is above 1 and below 4, and so is 2: half of the four pairs; user 0 alone has all, user 1 none;
    # user 0 twice and user 1 once: 3 counts 2, 2 counts 1, 1 counts 2, 4 counts 1, so 2 x 2 + 1 x 2 of 3 x 3
    assert auc(DRAWS) == pytest.approx([1 / 2, 1, 0, 6 / 9, math.nan], nan_ok=True)
    # within users: 1 and 0, each with two pairs
    assert value("gauc", DRAWS) == pytest.approx([1 / 2, 1, 0, 2 / 3, math.nan], nan_ok=True)
    first, second = cost(3, 1) + cost(1, 0), cost(2, 1) + cost(4, 0)
    by_hand = [(first + second) / 4, first / 2, second / 2, (2 * first + second) / 6, math.nan]
    assert value("log_loss", DRAWS) == pytest.approx(by_hand, nan_ok=True)


def auc(draws):
    return value("auc", draws)


def value(kind, draws, scores=SCORES, labels=LABELS, users=USERS):
    return KINDS[kind](scores, labels, users)(draws).tolist()


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_draw_is_the_metric_of_rows_that_stand_there_so_often(kind):
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(400, generator=generator) * 4).round() / 4  # many ties
    scores[:4] = torch.tensor([30.0, -30.0, 30.0, -30.0]) if kind == "log_loss" else math.nan
    labels = (torch.rand(400, generator=generator) < 0.3).float()
    labels[:4] = torch.tensor([1.0, 1.0, 0.0, 0.0])
    users = torch.randint(0, 40, (400,), generator=generator)
    draws = torch.randint(0, 4, (12, 43), generator=generator).double()  # three users without a pair
    found = value(kind, draws, scores, labels, users)
    for weights, ours in zip(draws.long(), found, strict=True):
        # a user who is drawn twice is two users to GAUC, with the same AUC each
        rows = torch.repeat_interleave(torch.arange(400), weights[users])
        nth = torch.cat([torch.arange(n) for n in weights[users].tolist()])
        apart = users[rows] + 100 * nth
        theirs = {
            "auc": lambda rows=rows: functional.auc(scores[rows], labels[rows]),
            "gauc": lambda rows=rows, apart=apart: functional.gauc(scores[rows], labels[rows], apart),
            "log_loss": lambda rows=rows: functional.log_loss(scores[rows], labels[rows]),
        }[kind]()
        assert ours == pytest.approx(float(theirs), rel=1e-9)


def test_a_meter_gives_draws_of_pooled_metrics_alone():
    meter = MetricAccumulator(["auc", "gauc", "log_loss", "impression_auc"], METRICS)
    meter.update(SCORES.view(2, 2), labels=LABELS.view(2, 2), users=torch.tensor([7, 3]))
    found = meter.of_draws()
    assert list(found) == ["auc", "gauc", "log_loss"]
    once = np.ones((1, 2))
    assert {name: of(once)[0] for name, of in found.items()} == pytest.approx(
        {name: value for name, value in meter.compute().items() if name in found}
    )
    # user 3 stands second among the requests and first among the users
    assert found["auc"](np.array([[2.0, 0.0], [0.0, 2.0]])).tolist() == [0, 1]
    assert MetricAccumulator(["mrr"], METRICS).of_draws() == {}


def test_the_interval_of_two_users_by_hand(tmp_path):
    """Of four equally likely draws one is user 0 twice (AUC 1), one is user 1 twice (AUC 0): more than 2.5 % each."""
    meter = MetricAccumulator(["auc", "log_loss"], METRICS)
    meter.update(SCORES.view(2, 2), labels=LABELS.view(2, 2), users=torch.tensor([1, 2]))
    results = write_results(
        tmp_path,
        model="DIN",
        protocol=Protocol(
            dataset="toy", data_hash="d", split=SplitSpec(), split_hash="s", part="test", candidates="rated",
            seen="kept", users=2, num_items=4,
        ),
        values=meter.compute(),
        per_user=meter.per_user(),
        of_draws=meter.of_draws(),
        users=["a", "b"],
        lower_is_better=meter.lower_is_better,
    )  # fmt: skip
    assert str(results.metrics["auc"]) == "0.5000 [0.0000, 1.0000]"
    loss, first, second = results.metrics["log_loss"], cost(3, 1) + cost(1, 0), cost(2, 1) + cost(4, 0)
    assert (loss.low, loss.high) == pytest.approx((first / 2, second / 2))
    assert loss.mean == pytest.approx((first + second) / 4, rel=1e-6)
    assert not loss.higher_is_better


def test_bounds_are_those_of_a_mean_where_the_metric_is_one():
    random = np.random.default_rng(0)
    values = random.random(60)
    mean = {"m": lambda weights: weights @ values / weights.sum(1)}
    expected = intervals({"m": values})["m"]
    assert bounds_of_draws(mean, 60)["m"] == pytest.approx((expected.low, expected.high))
    assert bounds_of_draws({}, 60) == {}


@pytest.mark.parametrize(("users", "given"), [(1, 0.5), (5, math.nan)])
def test_without_two_users_or_without_a_value_there_is_no_interval(users, given):
    found = bounds_of_draws({"m": lambda weights: np.full(len(weights), given)}, users)
    assert all(math.isnan(bound) for bound in found["m"])


def test_the_auc_interval_covers_the_truth():
    """Users of very different taste: the interval over rows would be far too narrow."""
    random = np.random.default_rng(1)
    covered, widths = [], []
    for _ in range(40):
        skill = np.repeat(random.normal(0.8, 1.5, 80), 20)
        labels = random.random(1600) < 0.5
        scores = torch.from_numpy(random.normal(size=1600) + skill * labels)
        given = scores, torch.from_numpy(labels).float(), torch.arange(80).repeat_interleave(20)
        of_draws = bootstrap_weights.auc(*given)
        bounds = bounds_of_draws(
            {"auc": lambda w, f=of_draws: f(torch.from_numpy(w)).numpy()}, 80, resamples=200
        )
        covered.append(bounds["auc"][0] <= TRUTH <= bounds["auc"][1])
        widths.append(bounds["auc"][1] - bounds["auc"][0])
    assert 0.85 <= np.mean(covered) <= 1
    assert 0.05 < np.mean(widths) < 0.2


TRUTH = 0.5 * (1 + math.erf(0.8 / math.sqrt(2 + 1.5**2) / math.sqrt(2)))
"""Chance that N(0.8, 1 + 1.5 ** 2) is above N(0, 1)."""
