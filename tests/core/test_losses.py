import math

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import BCE, BPR, GBCE, CrossEntropy, SampledSoftmax, bce, bpr, gbce, gbce_beta
from recloom.recommender import Queries, Recommender, VectorRecommender


class Fixed(VectorRecommender):
    """Queries and item vectors given by the test."""

    def __init__(self, catalog, queries: Queries) -> None:
        super().__init__(catalog)
        self.queries = queries

    def training_queries(self, batch):
        return self.queries

    def initial_vectors(self, users, items):
        return self.queries.vectors, self.queries.items[items]


def catalog(items=4, users=2):
    return Catalog(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(1, items + 1)]}),
        pl.DataFrame({"user_id": [f"u{n}" for n in range(1, users + 1)]}),
    )


def fixed(scores, targets, bias=None, users=None):
    """A recommender whose one-dimensional query gives item i the score `scores[i - 1]`."""
    items = torch.tensor([0.0, *scores])[:, None]
    n = len(targets)
    q = Queries(
        torch.ones(n, 1), torch.tensor(targets), items, torch.ones(n).long() if users is None else users, bias
    )
    return Fixed(catalog(len(scores)), q)


BATCH = Batch.of(torch.zeros(1, 1, dtype=torch.long))


def test_cross_entropy_by_hand_leaves_padding_out():
    expected = math.log(math.e + math.e**2 + math.e**3) - 2
    assert CrossEntropy()(fixed([1.0, 2.0, 3.0], [2]), BATCH).item() == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_uses_the_bias():
    biased = fixed([0.0, 0.0], [1], bias=torch.tensor([9.0, 1.0, 3.0]))
    assert CrossEntropy()(biased, BATCH).item() == pytest.approx(math.log(1 + math.e**2), abs=1e-6)


@pytest.mark.fact("B1.1")
def test_gbce_by_hand():
    assert gbce_beta(10, 101, 0.75) == pytest.approx(0.325)
    loss = gbce(torch.tensor([2.0]), torch.full((1, 10), -1.0), 0.325)
    assert loss.item() == pytest.approx(0.28853, abs=5e-6)
    beta = gbce_beta(256, 3416, 0.75)
    assert pytest.approx(0.07496, abs=5e-6) == 256 / 3415
    assert beta == pytest.approx(0.30622, abs=5e-6)
    gamma = torch.log(1 / (torch.sigmoid(torch.tensor(1.0, dtype=torch.float64)) ** -beta - 1))
    assert gamma.item() == pytest.approx(2.29581, abs=5e-6)
    assert torch.sigmoid(gamma).item() == pytest.approx(0.90853, abs=5e-6)
    # the transformed logit of the paper's code and beta * logsigmoid are the same term
    mine = gbce(torch.tensor([1.0], dtype=torch.float64), torch.full((1, 1), -1e9, dtype=torch.float64), beta)
    assert 2 * mine.item() == pytest.approx(-math.log(0.90853), abs=1e-5)


@pytest.mark.fact("B1.2")
def test_gbce_at_zero_calibration_is_bce():
    g = torch.Generator().manual_seed(0)
    p, n = (
        torch.randn(50, generator=g, dtype=torch.float64),
        torch.randn(50, 7, generator=g, dtype=torch.float64),
    )
    assert gbce(p, n, gbce_beta(7, 1000, 0.0)).item() == pytest.approx(bce(p, n).item(), abs=1e-9)


def test_gbce_is_finite_for_confident_scores():
    p = torch.tensor([80.0, -80.0], requires_grad=True)
    loss = gbce(p, torch.tensor([[-80.0], [80.0]]), 0.3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(p.grad).all()


def test_bpr_at_equal_scores_is_log_two():
    assert bpr(torch.zeros(3), torch.zeros(3, 1)).item() == pytest.approx(0.6931, abs=5e-5)


def test_bce_by_hand():
    # -(log s(2) + log(1 - s(-1))) / 2 = (0.126928 + 0.313262) / 2
    assert bce(torch.tensor([2.0]), torch.tensor([[-1.0]])).item() == pytest.approx(0.220095, abs=1e-6)


def interactions():
    frame = pl.DataFrame({"user_id": ["u1"] * 3 + ["u2"], "item_id": ["i1", "i2", "i3", "i4"]})
    return Interactions.from_frame(frame, catalog())


def test_bpr_negatives_are_never_positives():
    loss = BPR(negatives=3)
    loss.fit(interactions())
    q = fixed([0.0] * 4, [1] * 200).queries
    assert (loss.draw(q) == 4).all()  # u1 has seen 1, 2 and 3


def test_bpr_penalty_is_half_the_squares_per_query():
    loss = BPR(l2=1.0)
    r = fixed([2.0, 2.0], [1])
    # query 1, target 2, negative 2: .5 * (1 + 4 + 4) = 4.5, and the scores are equal
    assert loss(r, BATCH).item() == pytest.approx(4.5 + math.log(2), abs=1e-5)


def test_bpr_with_l2_asks_for_trainable_rows():
    class NoRows(Fixed):
        initial_vectors = VectorRecommender.initial_vectors

    r = NoRows(catalog(2), fixed([0.0, 0.0], [1]).queries)
    with pytest.raises(RecloomError, match="use l2=0"):
        BPR(l2=0.1)(r, BATCH)


def test_sampled_softmax_with_logq_approaches_the_full_one():
    torch.manual_seed(0)
    scores = torch.linspace(-2, 2, 40).tolist()
    r = fixed(scores, [35] * 4)
    loss = SampledSoftmax(negatives=200_000)
    loss.fit(Interactions.from_frame(pl.DataFrame({"user_id": ["u1"], "item_id": ["i1"]}), catalog(40)))
    assert loss(r, BATCH).item() == pytest.approx(CrossEntropy()(r, BATCH).item(), abs=0.02)


def test_sampled_softmax_by_popularity_draws_what_was_seen():
    loss = SampledSoftmax(negatives=500, sampling="popularity")
    frame = pl.DataFrame({"user_id": ["u1"] * 4, "item_id": ["i1", "i1", "i1", "i3"]})
    loss.fit(Interactions.from_frame(frame, catalog()))
    drawn = loss.draw(fixed([0.0] * 4, [1]).queries)
    assert set(drawn.unique().tolist()) == {1, 3}
    assert (drawn == 1).float().mean().item() == pytest.approx(0.75, abs=0.06)
    assert loss.log_share[1].exp().item() == pytest.approx(0.75)


@pytest.mark.parametrize("loss", [CrossEntropy(), SampledSoftmax(4, logq=False), BPR(), BCE(), GBCE(4)])
def test_losses_refuse_recommenders_without_vectors(loss):
    with pytest.raises(RecloomError, match="Recommender does not"):
        loss(Recommender(catalog()), BATCH)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: BCE(0), "negatives >= 1, found 0"), (lambda: GBCE(calibration=2), "between 0 and 1, found 2")],
)
def test_wrong_options_are_named(make, message):
    with pytest.raises(RecloomError, match=message):
        make()
