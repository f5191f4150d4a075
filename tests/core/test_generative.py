"""Recommenders that say paths of codes, and rollouts of those that score."""

import itertools
import math
from collections import Counter

import pytest
import torch
from recloom.batch import Batch
from recloom.nn import CatalogueTrie
from recloom.recommender import GenerativeRecommender, Recommender
from recloom.runs.run import Run
from recloom.testing.toys import toy_dataset
from recloom.testing.training import requests, train
from torch import nn


class CodeTable(GenerativeRecommender):
    """Three codes for each item; the next code depends on the last item, the code before and the place."""

    beam = 40

    def __init__(self, catalog, seed=0):
        super().__init__(catalog)
        self.trie = CatalogueTrie([[n % 3, n // 3 % 5, n // 15] for n in range(catalog.num_items)])
        random = torch.Generator().manual_seed(seed)
        self.of_item, self.of_last, self.of_place = (
            nn.Parameter(torch.randn(size, 5, generator=random), requires_grad=False)
            for size in (catalog.num_items + 1, 6, 3)
        )

    def next_codes(self, batch, codes):
        last = codes[:, :, -1] if codes.shape[2] else torch.full(codes.shape[:2], 5)
        logits = (
            self.of_item[batch.history[:, -1]][:, None] + self.of_last[last] + self.of_place[codes.shape[2]]
        )
        return logits.log_softmax(-1)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return train(CodeTable, {}, toy_dataset(tmp_path_factory.mktemp("toy") / "toy"))


@pytest.fixture
def batch(module):
    return requests(module.trainer.datamodule.train)


@pytest.mark.fact("B15.2")
def test_lists_equal_scoring_every_path(module, batch):
    model = module.recommender
    scores = model.score(batch)
    assert scores.shape == (len(batch), 30)
    items, found = model.retrieve(batch, 30)
    wanted, order = scores.sort(1, descending=True)
    assert torch.equal(items, order + 1)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(model.log_prob(batch, items), found)


@pytest.mark.fact("B15.4")
def test_rollouts_stay_among_the_candidates(module, batch):
    model = module.recommender
    free, _ = model.rollouts(Batch.of(batch.history), 30)
    batch.candidates = torch.tensor([[3, 7, 0, 11, 12]])
    for how in ("beam", "sample"):
        items, scores = model.rollouts(batch, 6, how)
        assert set(items.unique().tolist()) <= {0, 3, 7, 11, 12}
        shown = items > 0
        torch.testing.assert_close(scores[shown], model.log_prob(batch, items)[shown])
        assert scores[~shown].isneginf().all()
    items, _ = model.rollouts(batch, 6)
    for row, every in zip(items.tolist(), free.tolist(), strict=True):
        assert row == [item for item in every if item in (3, 7, 11, 12)] + [0, 0]
    assert model.rollouts(batch, 6, "sample")[0].shape == (len(batch), 6)


def test_evaluation_measures_its_lists(module, tmp_path, monkeypatch):
    model = module.recommender
    called = []
    retrieve = model.retrieve
    monkeypatch.setattr(CodeTable, "retrieve", lambda self, batch, k: called.append(k) or retrieve(batch, k))
    run = Run.of(tmp_path, module)
    found = run.module.trainer.test(run.module, run.module.trainer.datamodule, verbose=False)
    assert called
    assert 0 <= found[0]["test/ndcg@10"] <= 1


class Fixed(Recommender):
    """Scores that are given."""

    scores = torch.tensor([1.0, 0.0, -0.5, 2.0])

    def __init__(self):
        nn.Module.__init__(self)

    def score(self, batch):
        return self.scores.expand(len(batch), -1)


def test_rollouts_of_scores_are_draws_without_replacement():
    """Ordered pairs against p_i p_j / (1 - p_i)."""
    rows, model = 20_000, Fixed()
    batch = Batch.of(torch.zeros(rows, 1, dtype=torch.long), torch.tensor([[4, 0, 9, 2]]))
    torch.manual_seed(0)
    items, scores = model.rollouts(batch, 2, "sample")
    probability = dict(zip((4, 9, 2), model.scores[[0, 2, 3]].softmax(0).tolist(), strict=True))
    pairs = Counter(map(tuple, items.tolist()))
    assert set(pairs) <= set(itertools.permutations(probability, 2))
    for one, other in itertools.permutations(probability, 2):
        wanted = probability[one] * probability[other] / (1 - probability[one])
        assert pairs[one, other] / rows == pytest.approx(
            wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / rows)
        )
    exact = torch.tensor([[math.log(probability[item]) for item in row] for row in items[:50].tolist()])
    torch.testing.assert_close(scores[:50], exact)
    best, values = model.rollouts(batch.rows(slice(0, 1)), 6)
    assert best.tolist() == [[2, 4, 9, 0, 0, 0]]
    assert values[0, 3:].isneginf().all()
    assert values[0, :3].exp().sum() == pytest.approx(1)
