import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
from recloom.errors import RecloomError
from recloom.evaluation.significance import (
    BLOCK,
    holm,
    intervals,
    paired_difference,
    seeds_difference,
    seeds_interval,
)
from scipy.special import stdtr, stdtrit


def test_the_interval_covers_the_truth_19_times_in_20():
    rng = np.random.default_rng(0)
    # 500 data sets of 150 users; skewed values, as hit-or-miss metrics are
    values = {str(i): rng.binomial(1, 0.3, 150).astype(float) for i in range(500)}
    covered = [found.low <= 0.3 <= found.high for found in intervals(values, resamples=500).values()]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_the_interval_is_as_wide_as_the_theory_says():
    values = np.random.default_rng(1).normal(size=4000)
    found = intervals({"m": values}, resamples=4000)["m"]
    width = 2 * 1.96 * values.std() / math.sqrt(4000)
    assert found.high - found.low == pytest.approx(width, rel=0.06)
    assert found.mean == pytest.approx(values.mean())


def test_undefined_values_are_left_out_and_counted():
    found = intervals({"m": np.array([1.0, np.nan, 0.0, np.nan, 0.5]), "gone": np.full(5, np.nan)})
    assert (found["m"].mean, found["m"].n, found["m"].undefined) == (0.5, 3, 2)
    assert 0 <= found["m"].low < 0.5 < found["m"].high <= 1
    assert math.isnan(found["gone"].mean)
    assert math.isnan(found["gone"].low)
    assert (found["gone"].n, found["gone"].undefined) == (0, 5)
    assert math.isnan(intervals({"m": np.array([1.0])})["m"].low)
    assert intervals({}) == {}


def test_requests_of_one_user_are_drawn_together():
    rng = np.random.default_rng(2)
    each = rng.normal(size=200)
    users, values = np.repeat(np.arange(200), 25), np.repeat(each, 25)  # 25 copies say no more than one
    together, once = intervals({"m": values}, users)["m"], intervals({"m": each})["m"]
    assert (together.low, together.high) == pytest.approx((once.low, once.high))
    apart = intervals({"m": values})["m"]
    assert apart.high - apart.low < 0.3 * (together.high - together.low)


def test_users_with_many_requests_weigh_as_much_as_they_ask():
    found = intervals({"m": np.array([1.0, 1.0, 1.0, 0.0])}, np.array(["a", "a", "a", "b"]))["m"]
    assert found.mean == 0.75


def test_the_seed_decides():
    values = {"m": np.random.default_rng(3).random(50)}
    assert intervals(values, seed=1) == intervals(values, seed=1) != intervals(values, seed=2)


def test_memory_is_bounded():
    values = {"m": np.random.default_rng(4).random(100_000)}
    tracemalloc.start()
    found = intervals(values, resamples=200)["m"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 8 * BLOCK  # 200 x 100,000 draws at once would take 160 MB for each array
    assert found.low < 0.5 < found.high


def test_a_paired_difference_by_all_sign_flips():
    ours, theirs = np.array([0.9, 0.5, 0.4, 0.8, 0.7, 0.2]), np.array([0.5, 0.4, 0.5, 0.3, 0.6, 0.0])
    gaps = ours - theirs
    flips = [abs(np.dot(signs, gaps)) for signs in product((-1, 1), repeat=6)]
    exact = np.mean(np.array(flips) >= abs(gaps.sum()) - 1e-12)
    found = paired_difference(ours, theirs, resamples=20_000)
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert found.mean == pytest.approx(gaps.mean())
    assert found.low < found.mean < found.high


def test_p_values_are_even_when_there_is_no_difference():
    rng = np.random.default_rng(5)
    found = [paired_difference(*rng.normal(size=(2, 60)), resamples=300, seed=s) for s in range(300)]
    for kind in ("p_value", "p_bootstrap"):
        p = np.array([getattr(test, kind) for test in found])
        assert 0.02 <= (p <= 0.05).mean() <= 0.085
        assert 0.4 <= (p <= 0.5).mean() <= 0.6


def test_a_clear_difference_is_found_and_its_p_value_is_never_zero():
    rng = np.random.default_rng(6)
    theirs = rng.random(300)
    found = paired_difference(theirs + 0.05 + 0.05 * rng.normal(size=300), theirs, resamples=1000)
    assert found.p_value == pytest.approx(1 / 1001)
    assert found.p_bootstrap == pytest.approx(2 / 1001)
    assert 0 < found.low < found.mean < found.high


def test_equal_runs_do_not_differ():
    values = np.random.default_rng(7).random(100)
    found = paired_difference(values, values)
    assert (found.mean, found.p_value, found.p_bootstrap) == (0, 1, 1)


def test_pairs_undefined_in_either_run_are_left_out():
    found = paired_difference(np.array([1.0, np.nan, 0.5, 1.0]), np.array([0.0, 1.0, np.nan, 0.5]))
    assert (found.n, found.mean) == (2, 0.75)


def test_runs_that_cannot_be_paired_are_an_error():
    with pytest.raises(RecloomError, match="expected the same requests twice, found 3 and 2"):
        paired_difference(np.zeros(3), np.zeros(2))
    with pytest.raises(RecloomError, match="at least two users with a value in both runs, found 1"):
        paired_difference(np.array([1.0, np.nan]), np.zeros(2))
    with pytest.raises(RecloomError, match="at least two users with a value in both runs, found 1"):
        paired_difference(np.ones(3), np.zeros(3), np.array([4, 4, 4]))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def by_hand(ours, theirs):
    """The difference, its variance and the degrees of freedom, as docs/evaluation.md says them; a request a user."""
    users = ours.shape[1]
    parts, noise = [], 0.0
    for side in (ours, theirs):
        means = [row.mean() for row in side]
        if len(side) > 1:
            rest = [
                side[s, u] - side[:, u].mean() - (means[s] - np.mean(means))
                for s in range(len(side))
                for u in range(users)
            ]
            noise += sum(r * r for r in rest) / (len(side) - 1) / (users - 1) / users / len(side)
            parts.append((np.var(means, ddof=1) / len(side), len(side) - 1))
    gaps = ours.mean(axis=0) - theirs.mean(axis=0)
    parts.append((max(0.0, np.var(gaps, ddof=1) / users - noise), users - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / of for part, of in parts)
    return gaps.mean(), variance, freedom


@pytest.mark.parametrize("runs", [(3, 3), (5, 2), (3, 1)])
def test_seeds_and_users_both_count_in_a_difference_of_methods(runs):
    rng = np.random.default_rng(8)
    users = rng.normal(size=(2, 40))
    ours, theirs = (
        side + 0.1 * rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, 40))
        for side, n in zip(users, runs, strict=True)
    )
    mean, variance, freedom = by_hand(ours, theirs)
    found = seeds_difference(ours, theirs)
    assert found.mean == pytest.approx(mean)
    assert found.p_value == pytest.approx(2 * stdtr(freedom, -abs(mean) / variance**0.5))
    reach = stdtrit(freedom, 0.975) * variance**0.5
    assert (found.low, found.high) == pytest.approx((mean - reach, mean + reach))
    assert found.n == 40
    twice = seeds_difference(
        np.repeat(ours, 3, axis=1), np.repeat(theirs, 3, axis=1), np.repeat(np.arange(40), 3)
    )
    assert (twice.p_value, twice.low) == pytest.approx((found.p_value, found.low))  # copies say no more


def test_seeds_of_one_method_differ_by_luck_in_1_of_20_comparisons():
    """Whether the seeds' luck is a run's as a whole, single users' or both; two methods of equal merit."""
    rng = np.random.default_rng(9)
    for luck, noise, taste in ((0.02, 0.2, 0.0), (0.0, 0.2, 0.0), (0.01, 0.1, 0.1)):
        p = []
        for _ in range(400):
            merit = rng.random(150)
            ours, theirs = (
                merit
                + taste * rng.normal(size=150)
                + luck * rng.normal(size=(3, 1))
                + noise * rng.normal(size=(3, 150))
                for _ in range(2)
            )
            p.append(seeds_difference(ours, theirs).p_value)
        assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08


def test_equal_methods_do_not_differ():
    values = np.random.default_rng(10).random((1, 20)).repeat(3, axis=0)
    found = seeds_difference(values, values[:2])
    assert (found.mean, found.p_value) == pytest.approx((0, 1))
    assert seeds_difference(values + 1.0, values).p_value < 1e-9


def test_the_mean_of_seeds_has_an_interval_over_users_and_seeds():
    rng = np.random.default_rng(11)
    values = rng.random(60) + 0.05 * rng.normal(size=(4, 1)) + 0.2 * rng.normal(size=(4, 60))
    mean, variance, freedom = by_hand(values, np.zeros((1, 60)))
    found = seeds_interval(values)
    reach = stdtrit(freedom, 0.975) * variance**0.5
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach))
    some = values.copy()
    some[1, :7] = np.nan
    assert (seeds_interval(some).n, seeds_interval(some).undefined) == (53, 7)
    assert math.isnan(seeds_interval(values[:1]).low)


def test_a_small_p_value_survives_many_comparisons():
    rng = np.random.default_rng(12)
    theirs = rng.random(100)
    clear = theirs + 0.1 + 0.05 * rng.normal(size=100)
    one, many = (paired_difference(clear, theirs, tests=tests).p_value for tests in (1, 200))
    assert one == pytest.approx(1 / 2001)
    assert 200 * one > 0.05 > 200 * many
    close = paired_difference(theirs + 0.05 * rng.normal(size=100), theirs, tests=200)
    assert close.p_value > 0.05


def test_rounding_is_no_difference_and_bounds_stay_where_values_are():
    """Sums in another order differ in their last bit, which a zero variance would make certain."""
    same = np.linspace(0, 1, 50)
    found = seeds_difference(np.stack([same, same]), (same + 1e-17)[None] * (1 + 2e-16))
    assert (found.mean, found.p_value) == (0.0, 1.0)
    far = seeds_interval(np.stack([same * 0.2, same * 0.9]))
    assert (far.low, far.high) == (0.0, 1.0)
    wide = seeds_interval(np.stack([same * 2, same * 9]))
    assert wide.low < 0
    assert wide.high > 9
