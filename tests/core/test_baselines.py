"""Baselines against values computed by hand, references in numpy, and their exported graphs."""

from __future__ import annotations

import numpy as np
import onnxruntime
import polars as pl
import pytest
import recloom.models.cooccurrence
import recloom.models.item_knn
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.models import EASE, ItemKNN, LikeShare, Popularity, Random, TitleRate, core_models
from recloom.models.ease import closed_form, memory
from recloom.models.random import mix

DAY = 86_400
WHOLE = torch.tensor([[1, 2, 3]])


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(pl.DataFrame({"item_id": list("abc")}), pl.DataFrame({"user_id": list("uvwx")}))


@pytest.fixture
def interactions(catalog: Catalog) -> Interactions:
    # users of a, b, c: 3, 2, 2; of a and b: 2, of a and c: 1, of b and c: 1; x chose c twice
    rows = ["u a 0", "u b 1", "v a 2", "v b 2", "v c 3", "w a 4", "x c 0", "x c 4"]
    frame = pl.DataFrame(
        [row.split() for row in rows], schema=["user_id", "item_id", "timestamp"], orient="row"
    ).with_columns(pl.col("timestamp").cast(int))
    return Interactions.from_frame(frame.with_columns(pl.col("timestamp") * DAY), catalog)


def scores_of(model, history, candidates=WHOLE):
    return model.score(Batch.of(torch.tensor(history), candidates))


def larger(users=300, items=40, rows=4000, seed=0) -> tuple[Catalog, Interactions]:
    generator = np.random.default_rng(seed)
    catalog = Catalog(
        pl.DataFrame({"item_id": [f"i{n:02}" for n in range(items)]}),
        pl.DataFrame({"user_id": [f"u{n}" for n in range(users)]}),
    )
    taste = generator.dirichlet(np.full(items, 0.3), users)
    who = generator.integers(0, users, rows)
    what = [generator.choice(items, p=taste[u]) for u in who]
    frame = pl.DataFrame({"user_id": [f"u{u}" for u in who], "item_id": [f"i{i:02}" for i in what]})
    return catalog, Interactions.from_frame(frame, catalog)


def binary(interactions: Interactions) -> np.ndarray:
    matrix = np.zeros((interactions.num_users + 1, interactions.num_items + 1))
    matrix[tuple(index.numpy() for index in interactions.pairs())] = 1
    return matrix


def test_popularity_counts_every_interaction(catalog, interactions):
    model = Popularity(catalog)
    model.fit(interactions)
    assert scores_of(model, [[0, 1], [2, 3]]).tolist() == [[3, 2, 3], [3, 2, 3]]


def test_popularity_halves_with_every_half_life(catalog, interactions):
    model = Popularity(catalog, half_life_days=2.0)
    model.fit(interactions)
    # the last row is of day 4: a at days 0, 2, 4; b at 1, 2; c at 3, 0, 4
    expected = [0.25 + 0.5 + 1, 2**-1.5 + 0.5, 2**-0.5 + 0.25 + 1]
    assert scores_of(model, [[0]])[0].tolist() == pytest.approx(expected)


def test_popularity_ages_from_the_last_training_row_only(catalog, interactions):
    train = interactions.select(interactions.times[interactions.rows()] <= 2 * DAY)
    model = Popularity(catalog, half_life_days=1.0)
    model.fit(train)
    assert scores_of(model, [[0]])[0].tolist() == pytest.approx([0.25 + 1, 0.5 + 1, 0.25])


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan")])
def test_popularity_refuses_a_half_life_that_is_not_positive(catalog, days):
    with pytest.raises(RecloomError, match=r"half_life_days > 0, found .*; leave it out"):
        Popularity(catalog, half_life_days=days)


def test_item_knn_is_the_shrunk_cosine(catalog, interactions):
    model = ItemKNN(catalog, shrink=1.0)
    model.fit(interactions)
    ab, ac, bc = 2 / (6**0.5 + 1), 1 / (6**0.5 + 1), 1 / (2 + 1)
    expected = [[0, ab, ac], [ab, 0, bc], [ab + ac, ab + bc, ac + bc]]
    found = scores_of(model, [[0, 0, 1], [0, 0, 2], [1, 2, 3]])
    torch.testing.assert_close(found, torch.tensor(expected))


def test_item_knn_keeps_the_nearest_and_of_equals_the_first(catalog, interactions):
    model = ItemKNN(catalog, neighbours=1, shrink=0.0)
    model.fit(interactions)
    # s_ab = 2/sqrt(6), s_ac = 1/sqrt(6), s_bc = 1/2: a keeps b, b keeps a, c keeps b
    assert model.neighbour[1:].tolist() == [[2], [1], [2]]
    assert model.weight[:, 0].tolist() == pytest.approx([0, 2 / 6**0.5, 2 / 6**0.5, 0.5])
    frame = pl.DataFrame({"user_id": list("uuu"), "item_id": list("abc")})
    model.fit(Interactions.from_frame(frame, catalog))
    assert model.neighbour[1:].tolist() == [[2], [1], [1]]


@pytest.mark.parametrize("block", [64, 1 << 22])
def test_item_knn_equals_a_dense_reference_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(recloom.models.cooccurrence, "BLOCK", block)
    catalog, interactions = larger()
    blocks = list(recloom.models.cooccurrence.cooccurrence_counts(interactions))
    assert (len(blocks) > 10) == (block == 64)
    model = ItemKNN(catalog, neighbours=7, shrink=3.0)
    model.fit(interactions)
    x = binary(interactions)
    gram, n = x.T @ x, x.sum(0)
    similar = gram / (np.sqrt(np.outer(n, n)) + 3.0)
    np.fill_diagonal(similar, 0)
    cut = -np.sort(-similar, axis=1)[:, 6:7]
    reference = np.where(similar >= cut, similar, 0)
    history = torch.arange(1, 41)[:, None]
    found = scores_of(model, history.tolist(), torch.arange(41)[None])
    differs = ~np.isclose(found.numpy(), reference[1:], atol=1e-6)
    ties = np.isclose(similar, cut, atol=1e-7)[
        1:
    ]  # where several items share the last place, either may stand
    assert not (differs & ~ties).any()
    assert np.count_nonzero(found.numpy(), axis=1).max() == 7


def test_item_knn_scores_the_same_in_chunks(monkeypatch):
    catalog, interactions = larger()
    model = ItemKNN(catalog, neighbours=5)
    model.fit(interactions)
    batch = Batch.of(interactions.last(torch.arange(9), 12)[0], torch.randint(0, 41, (9, 6)))
    whole = model.score(batch)
    monkeypatch.setattr(recloom.models.item_knn, "CHUNK", 200)
    torch.testing.assert_close(model.score(batch), whole)


@pytest.mark.parametrize("config", [{"neighbours": 0}, {"shrink": -1.0}])
def test_item_knn_refuses_impossible_settings(catalog, config):
    with pytest.raises(RecloomError, match=r"neighbours >= 1 and shrink >= 0, found neighbours=.*shrink="):
        ItemKNN(catalog, **config)


def test_ease_is_the_closed_form_computed_by_hand(catalog, interactions):
    model = EASE(catalog, regularization=1.0)
    model.fit(interactions)
    # X^T X + I = [[4, 2, 1], [2, 3, 1], [1, 1, 3]], its inverse [[8, -5, -1], [-5, 11, -2], [-1, -2, 8]] / 21
    b = torch.tensor([[0, 5 / 11, 1 / 8], [5 / 8, 0, 2 / 8], [1 / 8, 2 / 11, 0]])
    found = scores_of(model, [[0, 1, 1], [0, 2, 3]])
    torch.testing.assert_close(found, torch.stack([b[0], b[1] + b[2]]))


def ease_weights(x, regularization, inv=np.linalg.inv):
    inverse = inv(x.T @ x + regularization * np.eye(x.shape[1]))
    weights = np.eye(x.shape[1]) - inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def test_ease_equals_a_reference():
    catalog, interactions = larger()
    model = EASE(catalog, regularization=20.0)
    model.fit(interactions)
    np.testing.assert_allclose(model.weights.numpy(), ease_weights(binary(interactions), 20.0), atol=1e-7)


def test_ease_is_exact_where_an_inverse_in_float32_is_not():
    x = np.random.default_rng(0).random((20_000, 30)) < 0.3
    x = np.concatenate([x, x[:, :1]], 1).astype(float)  # two items with the same users
    exact = ease_weights(x, 0.1)
    assert exact[0, 30] > 0.9
    assert np.abs(closed_form(torch.from_numpy(x.T @ x), 0.1).numpy() - exact).max() < 1e-6
    in_float32 = ease_weights(x, 0.1, lambda gram: torch.from_numpy(gram).float().inverse().numpy())
    assert np.abs(in_float32 - exact).max() > 1e-4


def test_ease_refuses_a_catalogue_too_large_for_memory_before_it_takes_any():
    many = Catalog(pl.DataFrame({"item_id": pl.int_range(30_000, eager=True)}))
    with pytest.raises(
        RecloomError, match=r"18\.0 GB to fit 30,000 items.*3\.6 GB.*max_items is 20,000.*ItemKNN"
    ):
        EASE(many)
    assert memory(1000) == (20_000_000, 4_000_000)
    assert EASE(many, max_items=30_000).weights.numel() == 0


def test_ease_refuses_no_regularization(catalog):
    with pytest.raises(RecloomError, match=r"regularization > 0, found 0"):
        EASE(catalog, regularization=0.0)


@pytest.mark.parametrize("model", [ItemKNN, EASE])
def test_unknown_items_and_empty_histories_contribute_nothing(catalog, interactions, model):
    made = model(catalog)
    made.fit(interactions)
    assert scores_of(made, [[0, 0]]).eq(0).all()
    assert scores_of(made, [[1, 2]], torch.tensor([[0]])).eq(0).all()
    assert torch.allclose(scores_of(made, [[1, 2]]), scores_of(made, [[0, 0, 1, 2]]), atol=1e-6)


@pytest.mark.parametrize("model", [model for model in core_models() if model not in (LikeShare, TitleRate)])
def test_fit_starts_afresh(catalog, interactions, model):
    other = Interactions.from_frame(pl.DataFrame({"user_id": ["u", "u"], "item_id": ["c", "b"]}), catalog)
    twice, once = model(catalog), model(catalog)
    twice.fit(interactions)
    twice.fit(other)
    once.fit(other)
    assert torch.allclose(scores_of(twice, [[1, 2]]), scores_of(once, [[1, 2]]), atol=1e-6)


def random_scores(catalog, seed=0, user=5, history=(7, 8), items=10_000):
    user, history = torch.tensor([user]), torch.tensor([history])
    return Random(catalog, seed=seed).score(Batch.of(history, torch.arange(1, items + 1)[None], user=user))[0]


def test_random_depends_on_seed_user_history_and_item_alone(catalog):
    first = random_scores(catalog)
    assert torch.equal(first, random_scores(catalog))
    assert torch.equal(first, random_scores(catalog, history=(0, 0, 7, 8)))
    for change in ({"seed": 1}, {"user": 6}, {"history": (8, 7)}, {"history": (7,)}):
        second = random_scores(catalog, **change)
        assert (first == second).float().mean() < 0.01
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.04


def test_random_is_uniform(catalog):
    scores = random_scores(catalog)
    assert scores.min() >= 0
    assert scores.max() < 1
    share = torch.histc(scores, 10, 0, 1) / len(scores)
    assert (share - 0.1).abs().max() < 0.012  # 4 standard deviations
    first = [int(random_scores(catalog, user=user, items=4).argmax()) for user in range(400)]
    assert np.bincount(first, minlength=4).min() > 65  # 100 expected, 4 standard deviations are 35


def test_mix_equals_plain_integers():
    def plain(x):
        x = (x ^ x >> 16) * 0x7FEB352D % 2**32
        x = (x ^ x >> 15) * 0x846CA68B % 2**32
        return x ^ x >> 16

    numbers = [0, 1, 2, 12345, 2**31, 2**32 - 1]
    assert mix(torch.tensor(numbers)).tolist() == [plain(n) for n in numbers]


def test_random_says_why_it_is_not_exported(catalog):
    with pytest.raises(RecloomError, match=r"Random cannot be exported.*no information"):
        Random(catalog).export()


@pytest.mark.parametrize("model", [Popularity, ItemKNN, EASE])
def test_the_exported_graph_gives_the_same_scores(tmp_path, model):
    catalog, interactions = larger()
    made = model(catalog)
    made.fit(interactions)
    spec = made.export()
    example = torch.ones(2, 3, dtype=torch.long)
    dynamic = {"fields": ({0: torch.export.Dim("batch"), 1: torch.export.Dim("length")},)}
    torch.onnx.export(
        spec.module.eval(),
        (example,),
        tmp_path / "model.onnx",
        dynamo=True,
        dynamic_shapes=dynamic,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for rows, length in [(1, 1), (2, 3), (5, 12)]:
        history = interactions.last(torch.arange(1, rows + 1), length)[0]
        found = session.run(None, {session.get_inputs()[0].name: history.numpy()})[0]
        expected = made.score(Batch.of(history, torch.arange(1, 41)[None]))
        assert found.shape == (rows, 40)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
