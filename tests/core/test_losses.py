import math
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import (
    BCE,
    BPR,
    GBCE,
    CrossEntropy,
    LogLoss,
    SampledSoftmax,
    bce,
    bpr,
    gbce,
    gbce_beta,
    loss_of,
    own_loss,
)
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


# Golden values: every row, negative and bias is another one, and the sums are written out in numpy.
VECTORS = np.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0]])
TABLE = np.array([[0.0, 0.0], [1.0, 0.5], [-0.5, 1.25], [0.75, -1.0], [0.2, 0.3]])
BIAS = np.array([0.0, 0.4, -0.3, 0.9, -1.1])
TARGETS = np.array([2, 4, 1])
DRAWN = {
    "one each": np.array([[3], [1], [2]]),
    "two each": np.array([[3, 1], [1, 3], [2, 4]]),
    "shared": np.array([[3, 1]]),
}


def golden(bias=True):
    q = Queries(
        torch.tensor(VECTORS), torch.tensor(TARGETS), torch.tensor(TABLE), torch.tensor([1, 2, 1]),
        torch.tensor(BIAS) if bias else None,
    )  # fmt: skip
    return Fixed(catalog(), q)


def scored(drawn, bias=True):
    """Scores of the targets (3,) and of the negatives (3, n), pair by pair."""
    rows = np.broadcast_to(drawn, (3, drawn.shape[1]))

    def score(row, item):
        return VECTORS[row] @ TABLE[item] + (BIAS[item] if bias else 0)

    positive = np.array([score(row, TARGETS[row]) for row in range(3)])
    return positive, np.array([[score(row, item) for item in rows[row]] for row in range(3)])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def with_drawn(loss, drawn, monkeypatch):
    monkeypatch.setattr(loss, "draw", lambda q: torch.tensor(drawn))
    return loss


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", DRAWN)
def test_bpr_bce_and_gbce_of_their_own_negatives_with_bias(kind, bias, monkeypatch):
    drawn = DRAWN[kind]
    positive, negative = scored(drawn, bias)
    count = drawn.shape[1]
    logs = np.log(sigmoid(positive)), np.log(1 - sigmoid(negative)).sum(1)
    beta = 1 - 0.6 * (1 - count / 3)
    expected = {
        BPR(count): -np.log(sigmoid(positive[:, None] - negative)).mean(),
        BCE(count): -((logs[0] + logs[1]) / (1 + count)).mean(),
        GBCE(count, calibration=0.6): -((beta * logs[0] + logs[1]) / (1 + count)).mean(),
    }
    for loss, value in expected.items():
        assert with_drawn(loss, drawn, monkeypatch)(golden(bias), BATCH).item() == pytest.approx(value), loss


@pytest.mark.parametrize("sampling", ["popularity", "uniform"])
@pytest.mark.parametrize("logq", [True, False])
@pytest.mark.parametrize("kind", DRAWN)
def test_sampled_softmax_by_the_expected_counts_of_its_negatives(kind, logq, sampling, monkeypatch):
    drawn = DRAWN[kind]
    loss = SampledSoftmax(drawn.shape[1], sampling=sampling, logq=logq)
    frame = pl.DataFrame({"user_id": ["u1"] * 8, "item_id": ["i1", *["i2"] * 2, *["i3"] * 4, "i4"]})
    loss.fit(Interactions.from_frame(frame, catalog()))
    share = np.array([1, 2, 4, 1]) / 8 if sampling == "popularity" else np.full(4, 1 / 4)
    positive, negative = scored(drawn)
    if logq:
        negative -= np.log(drawn.shape[1] * share[drawn - 1])
    values = []
    for row in range(3):
        others = [
            score
            for score, item in zip(negative[row], np.broadcast_to(drawn, negative.shape)[row], strict=True)
            if item != TARGETS[row]
        ]
        values.append(np.log(np.exp([positive[row], *others]).sum()) - positive[row])
    found = with_drawn(loss, drawn, monkeypatch)(golden(), BATCH).item()
    assert found == pytest.approx(np.mean(values), rel=1e-6)


@pytest.mark.parametrize("loss", [BCE(50), GBCE(50), BPR(50), SampledSoftmax(50, shared=False)])
def test_every_query_has_negatives_of_its_own_from_all_items_but_padding(loss):
    drawn = loss.draw(golden().queries)
    assert drawn.shape == (3, 50)
    assert not torch.equal(drawn[0], drawn[1])
    assert drawn.unique().tolist() == [1, 2, 3, 4]


def test_negatives_of_bce_may_be_unseen_by_their_user():
    unseen, all_items = BCE(60, unseen=True), BCE(60)
    for loss in (unseen, all_items):
        loss.fit(interactions())
    drawn = unseen.draw(golden().queries)  # of users 1, 2, 1: u1 has had 1, 2, 3 and u2 has had 4
    assert [row.unique().tolist() for row in drawn] == [[4], [1, 2, 3], [4]]
    assert all_items.draw(golden().queries).unique().tolist() == [1, 2, 3, 4]
    with pytest.raises(
        RecloomError, match=r"\(shared\) that none of them had \(unseen\)\. Choose one of the two"
    ):
        BCE(shared=True, unseen=True)


@pytest.mark.parametrize("sampling", ["popularity", "uniform"])
def test_shared_negatives_are_one_row(sampling):
    loss = SampledSoftmax(40, sampling=sampling)
    loss.fit(interactions())
    assert loss.draw(golden().queries).shape == (1, 40)
    loss.shared = False
    assert loss.draw(golden().queries).shape == (3, 40)
    seen = BPR(40, shared=True)
    seen.fit(interactions())
    assert seen.draw(golden().queries).unique().tolist() == [1, 2, 3, 4]  # of all items, seen or not


@pytest.mark.parametrize("kind", DRAWN)
def test_the_penalty_is_of_all_rows_of_a_query(kind, monkeypatch):
    drawn = DRAWN[kind]
    rows = np.broadcast_to(drawn, (3, drawn.shape[1]))
    squares = (VECTORS**2).sum() + (TABLE[TARGETS] ** 2).sum() + (TABLE[rows] ** 2).sum()
    plain, penalised = (with_drawn(BPR(l2=l2), drawn, monkeypatch)(golden(), BATCH).item() for l2 in (0, 0.3))
    assert penalised - plain == pytest.approx(0.3 * 0.5 * squares / 3)


def test_a_batch_without_a_target_costs_nothing():
    empty = Queries(
        torch.zeros(0, 2), torch.zeros(0).long(), torch.tensor(TABLE).float(), torch.zeros(0).long()
    )
    for loss in (
        CrossEntropy(),
        BCE(),
        GBCE(4),
        BPR(l2=0.5),
        SampledSoftmax(4),
        SampledSoftmax(4, False, "popularity"),
    ):
        loss.fit(interactions())
        assert loss(Fixed(catalog(), empty), BATCH).item() == pytest.approx(0.0)


def test_log_loss_by_hand_leaves_padding_out():
    class Scored(Recommender):
        def score(self, batch):
            return torch.tensor([[0.7, -1.2, 9.0], [0.1, 2.0, -0.4]])

    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    rows = Batch.of(
        torch.zeros(2, 1, dtype=torch.long), candidates=torch.tensor([[1, 2, 0], [3, 1, 4]]), labels=labels
    )
    chances = sigmoid(np.array([0.7, 1.2, -0.1, 2.0, -0.4]))  # of the labels that they have
    assert LogLoss()(Scored(catalog()), rows).item() == pytest.approx(-np.log(chances).mean(), rel=1e-6)
    rows = Batch.of(torch.zeros(2, 1, dtype=torch.long), labels=torch.ones(2, 1, dtype=torch.long))
    with pytest.raises(RecloomError, match="the training rows of Scored have none"):
        LogLoss()(Scored(catalog()), rows)


def test_the_exponent_of_gbce_at_its_limits():
    assert gbce_beta(10, 5, 0.75) == pytest.approx(1.0)  # more negatives than items
    assert gbce_beta(4, 5, 0.75) == pytest.approx(1.0)
    assert gbce_beta(2, 5, 0.75) == pytest.approx(1 - 0.75 / 2)
    assert gbce_beta(1, 1, 0.75) == pytest.approx(1.0)  # one item: nothing to be divided by


def test_defaults_and_limits_of_options():
    assert (BPR().negatives, BPR().shared, BPR().l2) == (1, False, 0.0)
    assert (BCE().negatives, BCE().shared, BCE().unseen) == (1, False, False)
    assert (GBCE().negatives, GBCE().calibration, GBCE().shared) == (256, 0.75, False)
    sampled = SampledSoftmax()
    assert (sampled.negatives, sampled.shared, sampled.sampling, sampled.logq) == (256, True, "uniform", True)
    assert (GBCE(calibration=0).calibration, GBCE(calibration=1).calibration) == (0, 1)


def test_the_loss_that_a_recommender_asks_for():
    class Asks(Recommender):
        default_loss: ClassVar = {"class_path": "BPR", "init_args": {"l2": 0.5}}

    class Named(Recommender):
        default_loss = "BCE"

    assert own_loss(Asks(catalog()), "X").l2 == pytest.approx(0.5)
    assert isinstance(loss_of(Named(catalog())), BCE)
    assert loss_of(Recommender(catalog())) is None
    with pytest.raises(RecloomError, match="X trains a recommender, and Recommender is not trained"):
        own_loss(Recommender(catalog()), "X")


def test_shares_of_items_are_counted_anew_and_in_no_checkpoint():
    loss = SampledSoftmax(sampling="popularity")
    loss.fit(interactions())
    assert loss.log_share.shape == (5,)
    assert not loss.state_dict()
