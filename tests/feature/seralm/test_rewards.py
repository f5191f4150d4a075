"""Rewards of SeRALM, against loops that follow the formula."""

import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.batches.training_rows import SequenceRows
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import CrossEntropy
from recloom.plugins import collect
from recloom_feature.seralm.rewards import credit, log_probabilities, rewards
from recloom_feature.seralm.variants import Variants, reading, uniform

ITEMS = 7


@pytest.fixture
def catalog():
    vectors = [[float(n), 1.0] for n in range(ITEMS)]
    users = pl.DataFrame({"user_id": ["u", "v", "w"]})
    return Catalog(pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "vector": vectors}), users)


def model(catalog, name="SASRec", **options):
    torch.manual_seed(0)
    made = collect("register_models")[name](
        catalog, dim=8, max_len=4, dropout=0.0, **({"item_input": "id+vector"} | options)
    )
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn_like(p) * 0.4)
    return made.eval()


def variants(k=2):
    torch.manual_seed(1)
    exists = torch.ones(ITEMS + 1, k, dtype=torch.bool)
    exists[0] = False
    exists[3, 1:] = False
    return Variants(torch.randn(ITEMS + 1, k, 2) * exists[..., None], exists)


def interactions(catalog):
    rows = [("u", [0, 1, 2, 1, 3]), ("v", [4, 0, 5, 1]), ("w", [2, 4])]
    flat = [(user, f"i{item}", at) for user, items in rows for at, item in enumerate(items)]
    frame = pl.DataFrame(flat, schema=["user_id", "item_id", "timestamp"], orient="row")
    return Interactions.from_frame(frame, catalog)


def test_credit_by_hand():
    """Windows a b c -> d and (padding) b b -> a, with log p of -1, -2, -4 and -8, -16."""
    history = torch.tensor([[1, 2, 3], [0, 2, 2]])
    labels = torch.tensor([[2, 3, 4], [0, 2, 1]])
    log_p = torch.tensor([[-1.0, -2.0, -4.0], [0.0, -8.0, -16.0]])
    items, sums, positions = credit(log_p, history, labels)
    found = {
        (n // 4, int(i)): (float(s), float(p))
        for n, (i, s, p) in enumerate(zip(items, sums, positions, strict=True))
    }
    assert found == {
        (0, 1): (-7, 3),  # in every history
        (0, 2): (-7, 3),  # target of the first, then in the history
        (0, 3): (-6, 2),
        (0, 4): (-4, 1),  # target of the last alone
        (1, 2): (-24, 2),  # twice in the row, counted once at each position
        (1, 1): (-16, 1),
    }


def by_hand(made, history, labels):
    """(L,) log p of one window alone, as training reads it: the vector of each place against every item."""
    real = history[history > 0][None]
    x = made.encode(real, torch.tensor([real.shape[1]]), made.item_vectors())[0]
    scores = (x @ made.item_vectors()[1:].T).log_softmax(1)  # (n, items)
    found = torch.zeros(len(history))
    for at in range(1, real.shape[1] + 1):
        if labels[-at] > 0:
            found[-at] = scores[-at, labels[-at] - 1]
    return found


def test_every_position_has_the_probability_that_training_gives_it(catalog):
    made = model(catalog)
    batch = Batch.of(
        torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [0, 0, 0, 2]]),
        user=torch.tensor([9, 9, 9]),
        labels=torch.tensor([[0, 2, 3, 1], [5, 6, 7, 7], [0, 0, 0, 6]]),
    )
    with torch.no_grad():
        found = log_probabilities(made, batch)
        rows = zip(batch.history, batch.labels, strict=True)
        assert torch.allclose(found, torch.stack([by_hand(made, h, y) for h, y in rows]), atol=1e-5)
        assert not found[batch.labels == 0].any()
        assert float(-found.sum() / 8) == pytest.approx(float(CrossEntropy()(made, batch)), abs=1e-5)


def brute_force(made, windows, texts, item, k):
    """Mean log p over the positions that hold the item, when it has text k and every other item its only text."""
    choice = torch.zeros(ITEMS + 1, dtype=torch.long)
    choice[item] = k
    total, count = 0.0, 0
    batch = windows[torch.arange(len(windows))]
    with reading(made, texts.pick(choice)), torch.no_grad():
        log_p = torch.stack([by_hand(made, *row) for row in zip(batch.history, batch.labels, strict=True)])
    for row, at in (batch.labels > 0).nonzero().tolist():
        if item in (*batch.history[row, : at + 1].tolist(), int(batch.labels[row, at])):
            total, count = total + float(log_p[row, at]), count + 1
    return total / max(1, count), count


def test_rewards_equal_the_formula_read_by_a_loop(catalog):
    """Only item 2 has two texts, so that nothing is left to chance."""
    made, windows = model(catalog), SequenceRows(interactions(catalog), 4)
    texts = variants()
    texts.exists[:, 1] = False
    texts.exists[2, 1] = True
    found = rewards(made, windows, texts, uniform(texts.exists), draws=1, seed=0)
    for item in range(1, ITEMS + 1):
        r, counts = zip(*(brute_force(made, windows, texts, item, k) for k in range(2)), strict=True)
        assert int(found.positions[item]) == counts[0]
        if item == 2:
            mean = sum(r) / 2
            assert found.values[item].tolist() == pytest.approx([r[0] - mean, r[1] - mean], abs=1e-5)
            assert abs(r[0] - r[1]) > 0.01
        else:
            assert found.values[item].tolist() == [0, 0]


def test_more_draws_of_the_others_come_to_the_expectation(catalog):
    """All items have two texts; the mean over all 2^6 choices of the others is what draws approach."""
    made, windows = model(catalog), SequenceRows(interactions(catalog), 4)
    texts = variants()
    batch = windows[torch.arange(len(windows))]
    free = [item for item in range(1, ITEMS + 1) if texts.exists[item].all()]
    total, count = torch.zeros(2, ITEMS + 1, 2, dtype=torch.float64)
    with torch.no_grad():
        for code in range(2 ** len(free)):
            choice = torch.zeros(ITEMS + 1, dtype=torch.long)
            choice[free] = torch.tensor([(code >> n) & 1 for n in range(len(free))])
            with reading(made, texts.pick(choice)):
                items, sums, positions = credit(log_probabilities(made, batch), batch.history, batch.labels)
            total.index_put_((items, choice[items]), sums.double(), accumulate=True)
            count.index_put_((items, choice[items]), positions.double(), accumulate=True)
    r = total / count.clamp(min=1)
    wanted = (r - r.mean(1, keepdim=True))[free].float()
    found = rewards(made, windows, texts, uniform(texts.exists), draws=400, seed=0).values[free]
    few = rewards(made, windows, texts, uniform(texts.exists), draws=2, seed=0).values[free]
    assert (found - wanted).abs().max() < 0.1 * wanted.abs().max()
    assert (found - wanted).abs().mean() < (few - wanted).abs().mean()


@pytest.mark.fact("A5.5")
def test_rewards_know_training_positions_only(catalog):
    """Items 5 and 6 (indices 6, 7) occur in no training row: no position, no reward; the others count theirs."""
    made, train = model(catalog), interactions(catalog)
    texts = variants()
    found = rewards(made, SequenceRows(train, 4), texts, uniform(texts.exists), draws=1, seed=0)
    sequences = [[1, 2, 3, 2, 4], [5, 1, 6, 2], [3, 5]]
    counts = np.zeros(ITEMS + 1, int)
    for sequence in sequences:
        for end in range(1, len(sequence)):
            for item in set(sequence[: end + 1]):
                counts[item] += 1
    assert found.positions.tolist() == counts.tolist()
    assert counts[7] == 0
    assert found.values[7].tolist() == [0, 0]
    assert found.values[[0, 3]].tolist() == [[0, 0], [0, 0]]  # padding, and an item with one text
    assert (found.values[[1, 2, 4, 5, 6]] != 0).all()


def test_rewards_are_a_function_of_the_seed(catalog):
    made, windows, texts = model(catalog), SequenceRows(interactions(catalog), 4), variants()
    own = made.items.vectors.clone()
    first, same, other = (
        rewards(made, windows, texts, uniform(texts.exists), draws=2, seed=s).values for s in (3, 3, 4)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(made.items.vectors, own)


def test_a_model_that_is_not_causal_is_refused(catalog):
    bert, windows, texts = model(catalog, "BERT4Rec"), SequenceRows(interactions(catalog), 4), variants()
    with pytest.raises(RecloomError, match="a causal sequence model such as SASRec gives; found BERT4Rec"):
        rewards(bert, windows, texts, uniform(texts.exists), draws=1, seed=0)


def test_a_model_that_answers_in_another_order_is_refused(catalog):
    made = model(catalog)
    usual = made.training_queries
    made.training_queries = lambda batch: usual(batch)._replace(targets=usual(batch).targets.flip(0))
    with pytest.raises(RecloomError, match="does not answer every position of a window in order"):
        log_probabilities(made, SequenceRows(interactions(catalog), 4)[torch.arange(2)])
