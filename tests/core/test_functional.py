import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from recloom.errors import RecloomError
from recloom.metrics import functional as f
from sklearn import metrics as sk

INF, NAN = math.inf, math.nan


def ranked(scores, targets):
    return f.ranks(torch.tensor(scores), torch.tensor(targets)).tolist()


def slow_ranks(scores, targets):
    """The definition, word by word, in plain Python."""
    result = []
    for row, wanted in zip(scores.tolist(), targets.tolist(), strict=True):
        relevant = [c for c in wanted if c >= 0]
        order = sorted(
            (c for c in relevant if row[c] > -INF),
            key=lambda c: (-row[c], wanted.index(c)),
        )
        line = []
        for c in wanted:
            if c < 0:
                line.append(0)
            elif c not in order:
                line.append(f.MISSED)
            else:
                ahead = sum(not row[o] < row[c] for o in range(len(row)) if o not in relevant)
                line.append(ahead + order.index(c) + 1)
        result.append(line)
    return result


def some_case(seed, rows, columns, width, levels=None, holes=0.0):
    """Scores (rows, columns), tied if there are `levels`, NaN and -inf if `holes`; targets (rows, width)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(rows, columns)) if levels is None else rng.integers(0, levels, (rows, columns))
    scores = scores.astype(np.float32)
    scores[rng.random(scores.shape) < holes] = -np.inf
    scores[rng.random(scores.shape) < holes / 2] = np.nan
    targets = np.argsort(rng.random((rows, columns)), axis=1)[:, :width]
    targets[rng.random(targets.shape) < 0.3] = -1
    return torch.from_numpy(scores), torch.from_numpy(targets)


def test_one_target_by_hand():
    assert ranked([[0.1, 0.9, 0.5], [3.0, 2.0, 1.0]], [[1], [2]]) == [[1], [3]]


def test_a_tie_counts_against_the_model():
    assert ranked([[0.0] * 20], [[0]]) == [[20]]
    assert ranked([[1.0, 1.0, 0.0, 0.0]], [[0, 2]]) == [[2, 4]]


def test_tied_relevant_items_do_not_push_each_other_down_twice():
    assert ranked([[5.0, 5.0, 1.0]], [[0, 1]]) == [[1, 2]]
    assert ranked([[5.0, 5.0, 5.0]], [[0, 1]]) == [[2, 3]]


def test_masked_and_broken_scores_never_help():
    assert ranked([[-INF, 1.0, 0.0]], [[0, 2]]) == [[f.MISSED, 2]]
    assert ranked([[NAN, 1.0, 0.0]], [[0, 1]]) == [[f.MISSED, 1]]
    assert ranked([[NAN, 1.0, 0.0]], [[1, -1]]) == [[2, 0]]
    assert ranked([[NAN, NAN, NAN]], [[1]]) == [[f.MISSED]]
    assert ranked([[-INF, 1.0, -INF]], [[1]]) == [[1]]


@pytest.mark.parametrize("width", [1, 2, 8, 9, 30])
@pytest.mark.parametrize(("levels", "holes"), [(None, 0.0), (4, 0.0), (6, 0.3)])
def test_ranks_agree_with_the_definition(width, levels, holes):
    scores, targets = some_case(width, 40, 60, width, levels, holes)
    assert f.ranks(scores, targets).tolist() == slow_ranks(scores, targets)


@pytest.mark.parametrize("width", [1, 3, 20])
@pytest.mark.parametrize("levels", [None, 3, 500])
@pytest.mark.parametrize("depth", [1, 5, 50])
def test_ranks_within_a_depth_agree_with_all_ranks(width, levels, depth):
    scores, targets = some_case(depth, 60, 400, width, levels)
    scores[scores < -1.5] = -INF
    whole = f.ranks(scores, targets)
    values, _ = f.top_k(scores, depth + 1)
    found = f.ranks_within(scores, targets, values)
    assert found.equal(whole.masked_fill(whole > depth, f.MISSED))


def test_ranks_within_a_list_longer_than_the_row_are_exact():
    scores, targets = some_case(0, 10, 6, 3)
    assert f.ranks_within(scores, targets, f.top_k(scores, 11)[0]).equal(f.ranks(scores, targets))


def test_memory_is_bounded_by_blocks_and_blocks_do_not_show():
    scores, targets = some_case(1, 300, 2000, 2)
    assert (
        f.ranks(scores, targets).tolist()
        == torch.cat([f.ranks(scores[[i]], targets[[i]]) for i in range(300)]).tolist()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(dtype):
    scores, targets = some_case(3, 20, 900, 12)
    scores = scores.to(dtype)
    expected = f.ranks(scores.double(), targets)
    assert f.ranks(scores, targets).equal(expected)
    values, _ = f.top_k(scores, 6)
    assert f.ranks_within(scores, targets, values).equal(expected.masked_fill(expected > 5, f.MISSED))


@pytest.mark.parametrize("columns", [3, 10, 87, 1000, 5003])
@pytest.mark.parametrize("k", [0, 1, 10, 40])
@pytest.mark.parametrize("levels", [None, 5])
def test_top_k_finds_what_torch_finds(columns, k, levels):
    scores, _ = some_case(columns + k, 30, columns, 1, levels)
    scores[0, columns // 2] = NAN
    values, places = f.top_k(scores, k)
    assert values[1:].equal(scores.gather(1, places)[1:])
    torch.testing.assert_close(values, scores.topk(min(k, columns)).values, equal_nan=True, rtol=0, atol=0)
    assert all(len(set(row)) == len(row) for row in places.tolist())


def test_a_column_named_twice_is_an_error():
    with pytest.raises(RecloomError, match=r"distinct columns in row 1 of targets, found \[2, 2, -1\]"):
        f.ranks(torch.rand(2, 4), torch.tensor([[0, 1, -1], [2, 2, -1]]))


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(RecloomError, match=r"found \(2, 4\) and \(2,\)"):
        f.ranks(torch.rand(2, 4), torch.tensor([0, 1]))


def test_ndcg_by_hand():
    values = f.ndcg(torch.tensor([[1], [2], [3], [6], [11]]), None)
    assert values.tolist() == pytest.approx([1, 0.6309, 0.5, 0.3562, 0.2789], abs=5e-5)
    assert f.ndcg(torch.tensor([[2], [3]]), 2).tolist() == pytest.approx([0.6309, 0], abs=5e-5)


def test_an_even_choice_among_20_candidates():
    places = torch.arange(1, 21)[:, None]
    found = [f.ndcg(places, k).mean().item() for k in (1, 5, 10, 20)]
    assert found == pytest.approx([0.0500, 0.1474, 0.2272, 0.3520], abs=5e-5)


def test_an_even_choice_among_21_candidates():
    places = torch.arange(1, 22)[:, None]
    assert [f.recall(places, k).mean().item() for k in (3, 5, 10)] == pytest.approx(
        [0.1429, 0.2381, 0.4762], abs=5e-5
    )
    assert [f.mrr(places, k).mean().item() for k in (3, 5, 10)] == pytest.approx(
        [0.0873, 0.1087, 0.1395], abs=5e-5
    )


def test_the_impression_of_mind_by_hand():
    scores, labels = torch.tensor([0.9, 0.8, 0.1]), torch.tensor([0.0, 1.0, 1.0])
    found = f.ranks(scores[None], torch.tensor([[1, 2]]))
    assert f.auc(scores, labels).item() == 0
    assert f.impression_mrr(found, None).item() == pytest.approx(0.4167, abs=5e-5)
    assert f.ndcg(found, 5).item() == pytest.approx(0.6934, abs=5e-5)


@pytest.mark.parametrize(("others", "expected"), [(3415, 0.0029), (100, 0.099)])
def test_a_random_scorer_hits_as_often_as_chance(others, expected):
    users = 20_000
    rank = 1 + np.random.default_rng(0).binomial(others, np.random.default_rng(1).random(users))
    rate = f.hit(torch.from_numpy(rank)[:, None], 10).mean().item()
    assert rate == pytest.approx(expected, abs=3 * math.sqrt(expected / users))
    scores = torch.rand(2000, others + 1, generator=torch.Generator().manual_seed(2))
    rate = f.hit(f.ranks(scores, torch.zeros(2000, 1, dtype=torch.int64)), 10).mean().item()
    assert rate == pytest.approx(expected, abs=3 * math.sqrt(expected / 2000))


def test_several_relevant_items_by_hand():
    ranks = torch.tensor([[4, 1, 0], [0, 0, 0], [f.MISSED, 2, 12]])
    nan = pytest.approx(NAN, nan_ok=True)
    assert f.recall(ranks, 3).tolist() == [0.5, nan, 1 / 3]
    assert f.precision(ranks, 4).tolist() == [0.5, nan, 0.25]
    assert f.hit(ranks, 1).tolist() == [1, nan, 0]
    assert f.mrr(ranks, None).tolist() == [1, nan, 0.5]
    assert f.average_precision(ranks, 10).tolist() == pytest.approx([0.75, NAN, 1 / 6], nan_ok=True)
    assert f.average_precision(ranks, 1).tolist() == pytest.approx([1, NAN, 0], nan_ok=True)
    assert f.impression_mrr(ranks, None).tolist() == pytest.approx(
        [0.625, NAN, (1 / 2 + 1 / 12) / 3], nan_ok=True
    )
    second = (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert f.ndcg(ranks, 10)[0].item() == pytest.approx(second)
    assert f.ndcg(ranks, 1).tolist() == pytest.approx([1, NAN, 0], nan_ok=True)


def test_a_missed_item_is_no_hit_at_any_cutoff():
    missed = torch.tensor([[f.MISSED]])
    for metric in (f.recall, f.hit, f.ndcg, f.mrr, f.average_precision, f.impression_mrr):
        assert metric(missed, None).item() == metric(missed, 10**9).item() == 0


def labelled(seed, rows=50, columns=30):
    rng = np.random.default_rng(seed)
    scores, labels = rng.normal(size=(rows, columns)), (rng.random((rows, columns)) < 0.2).astype(float)
    labels[:, 0] = 1
    targets = np.where(labels > 0, np.arange(columns), -1)
    return scores, labels, f.ranks(torch.from_numpy(scores), torch.from_numpy(targets))


@pytest.mark.parametrize("k", [1, 5, None])
def test_ndcg_agrees_with_scikit_learn(k):
    scores, labels, ranks = labelled(0)
    expected = [sk.ndcg_score(labels[[i]], scores[[i]], k=k) for i in range(len(scores))]
    assert f.ndcg(ranks, k).tolist() == pytest.approx(expected, abs=1e-9)


def test_average_precision_agrees_with_scikit_learn():
    scores, labels, ranks = labelled(1)
    expected = [sk.average_precision_score(y, s) for y, s in zip(labels, scores, strict=True)]
    assert f.average_precision(ranks, None).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("levels", [2, 10, 10_000])
def test_auc_agrees_with_scikit_learn_ties_included(levels):
    rng = np.random.default_rng(levels)
    scores, labels = rng.integers(0, levels, 3000) / levels, rng.integers(0, 2, 3000).astype(float)
    assert f.auc(torch.from_numpy(scores), torch.from_numpy(labels)).item() == pytest.approx(
        sk.roc_auc_score(labels, scores), abs=1e-9
    )


def test_auc_of_groups_and_its_weighted_mean():
    rng = np.random.default_rng(5)
    users, scores, labels = (
        rng.integers(0, 40, 600) * 7,
        rng.integers(0, 9, 600) * 1.0,
        rng.integers(0, 2, 600) * 1.0,
    )
    users[:10], labels[:10] = 999, 1  # one class only: skipped
    total = weight = 0.0
    for user in np.unique(users):
        mine = users == user
        if 0 < labels[mine].sum() < mine.sum():
            total += sk.roc_auc_score(labels[mine], scores[mine]) * mine.sum()
            weight += mine.sum()
    assert 500 < weight <= 590
    found = f.gauc(*map(torch.from_numpy, (scores, labels, users)))
    assert found.item() == pytest.approx(total / weight, abs=1e-9)
    single = f.grouped_auc(torch.rand(3), torch.ones(3), torch.zeros(3, dtype=torch.int64), 2)
    assert single.isnan().all()


def test_auc_of_constant_and_of_broken_scores():
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert f.auc(torch.ones(4), labels).item() == 0.5
    assert f.auc(torch.tensor([NAN, 0.0, NAN, 0.0]), labels).item() == 0
    assert f.auc(torch.tensor([1.0, NAN, 2.0, NAN]), labels).item() == 0
    assert f.auc(torch.empty(0), torch.empty(0)).isnan()


def test_log_loss_agrees_with_scikit_learn_and_is_clamped():
    rng = np.random.default_rng(6)
    scores, labels = rng.normal(size=500), rng.integers(0, 2, 500).astype(float)
    expected = sk.log_loss(labels, 1 / (1 + np.exp(-scores)))
    assert f.log_loss(torch.from_numpy(scores), torch.from_numpy(labels)).item() == pytest.approx(
        expected, abs=1e-9
    )
    assert f.log_loss(torch.tensor([-1e9]), torch.tensor([1.0])).item() == pytest.approx(-math.log(1e-7))
    assert f.log_loss(torch.tensor([NAN]), torch.tensor([1.0])).isnan()


TOP = torch.tensor([[1, 2], [1, 3], [1, 0], [0, 0]])
COUNTS = torch.tensor([0, 6, 2, 0, 0])


def test_coverage_and_gini_by_hand():
    assert f.coverage(TOP, 4).item() == 0.75
    # counts 0, 1, 1, 3 in rising order: (-3*0 - 1*1 + 1*1 + 3*3) / (4 * 5)
    assert f.gini(TOP, 4).item() == pytest.approx(9 / 20)
    assert f.gini(torch.tensor([[1, 2, 3, 4]]), 4).item() == 0
    assert f.gini(torch.zeros(2, 3, dtype=torch.int64), 4).isnan()


def test_novelty_and_popularity_bias_by_hand():
    first, second = -math.log2(6 / 8), -math.log2(2 / 8)
    assert f.novelty(TOP, COUNTS).tolist() == pytest.approx(
        [(first + second) / 2, (first + 3) / 2, first, NAN], nan_ok=True
    )
    consumed = (36 + 4) / 8
    expected = [4 / consumed, 3 / consumed, 6 / consumed, NAN]
    assert f.popularity_bias(TOP, COUNTS).tolist() == pytest.approx(expected, nan_ok=True)


def test_diversity_agrees_with_all_pairs():
    vectors = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    top = torch.tensor([[1, 2, 3], [4, 5, 0], [6, 0, 0]])
    cosine = torch.nn.functional.cosine_similarity
    pairs = [cosine(vectors[a], vectors[b], dim=0).item() for a, b in ((1, 2), (1, 3), (2, 3))]
    expected = [1 - sum(pairs) / 3, 1 - cosine(vectors[4], vectors[5], dim=0).item(), NAN]
    assert f.diversity(top, vectors).tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_diversity_of_categories_by_hand():
    kinds = torch.tensor([0, 7, 7, 8, 9])
    top = torch.tensor([[1, 2, 3], [1, 2, 0], [3, 4, 0], [4, 0, 0]])
    assert f.category_diversity(top, kinds).tolist() == pytest.approx([2 / 3, 0, 1, NAN], nan_ok=True)


cases = st.integers(2, 12).flatmap(
    lambda c: st.tuples(
        hnp.arrays(np.float32, (3, c), elements=st.sampled_from([-INF, -1.0, 0.0, 0.5, 2.0, NAN])),
        st.lists(st.permutations(range(c)), min_size=3, max_size=3),
        st.integers(1, c),
        st.permutations(range(c)),
    )
)
ALL = [f.recall, f.precision, f.hit, f.ndcg, f.mrr, f.average_precision, f.impression_mrr]


@settings(max_examples=150, deadline=None)
@given(cases)
def test_bounds_permutation_and_monotonicity(case):
    scores, orders, width, shuffle = torch.from_numpy(case[0]), case[1], case[2], torch.tensor(case[3])
    targets = torch.tensor(orders)[:, :width]
    found = f.ranks(scores, targets)
    assert found.tolist() == slow_ranks(scores, targets)
    moved = torch.empty_like(shuffle).scatter_(0, shuffle, torch.arange(len(shuffle)))
    assert f.ranks(scores[:, shuffle], moved[targets]).equal(found)  # candidates in another order
    for metric in ALL:
        values = [metric(found, k) for k in range(1, scores.shape[1] + 1)]
        assert all(((v >= 0) & (v <= 1 + 1e-12)).all() for v in values)
        if metric in (f.recall, f.hit, f.mrr, f.impression_mrr):  # a longer list never hurts
            assert all((b >= a).all() for a, b in pairwise(values))
    better = scores.clone()
    better[:, 0] += (targets == 0).any(1) * 1.0  # one relevant item scores higher
    assert (f.ndcg(f.ranks(better, targets), None) >= f.ndcg(found, None) - 1e-12).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(1, 40), st.floats(-10, 10, width=32))
def test_a_constant_scorer_gets_chance_level_or_less(columns, k, constant):
    scores = torch.full((columns, columns), constant)
    found = f.ranks(scores, torch.arange(columns)[:, None])
    assert f.hit(found, k).mean() <= min(1, k / columns)
    assert f.mrr(found, None).mean() == pytest.approx(1 / columns)


@pytest.mark.parametrize("k", [1, 10])
def test_metrics_agree_with_ranx(k):
    ranx = pytest.importorskip(
        "ranx", reason="ranx is not installed; benchmarks/evaluation.py compares as well"
    )
    rng = np.random.default_rng(8)
    scores = rng.random((60, 80)).argsort(1).astype(np.float32)  # without ties, in which ranx is arbitrary
    targets = rng.random((60, 80)).argsort(1)[:, :5]
    users = [f"u{u:02}" for u in range(60)]
    qrels = {u: {str(c): 1 for c in row} for u, row in zip(users, targets, strict=True)}
    run = {u: {str(c): float(s) for c, s in enumerate(row)} for u, row in zip(users, scores, strict=True)}
    ranks = f.ranks(torch.from_numpy(scores), torch.from_numpy(targets))
    ours = {"recall": f.recall, "precision": f.precision, "hit_rate": f.hit, "ndcg": f.ndcg, "mrr": f.mrr}
    ours["map"] = lambda ranks, k: f.average_precision(ranks, k) * min(5, k) / 5  # ranx divides by all
    theirs = ranx.evaluate(
        ranx.Qrels(qrels), ranx.Run(run), [f"{name}@{k}" for name in ours], return_mean=False
    )
    for name, metric in ours.items():
        np.testing.assert_allclose(metric(ranks, k), theirs[f"{name}@{k}"], atol=1e-6)
