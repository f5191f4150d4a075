"""Contrastive losses of graphs against references in numpy, which share no code with them.

The references take what was drawn (edges, noise, negatives, hidden nodes) and the weights, and nothing else.
"""

import inspect

import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.losses import BPR, Loss
from recloom_graph.losses.contrast import DroppedEdges, NoisyViews, drop_edges
from recloom_graph.losses.info_nce import info_nce, view_contrast
from recloom_graph.losses.rlmrec import RLMRecCon, RLMRecGen
from recloom_graph.models.contrastive import SGL, SimGCL
from recloom_graph.models.lightgcn import LightGCN

USERS, ITEMS, DIM, SIZE = 5, 7, 4, 6
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 3), (2, 0), (2, 4), (2, 5), (3, 5), (3, 6), (4, 2), (4, 6)]
FIRST = USERS + 1
"""The node of the padding item; nodes 0 and FIRST are nobody."""
CLOSE = {"rel": 2e-5, "abs": 1e-7}


class Sum(Loss):
    """A ranking loss of a known value, which reads the tables of the step as others do."""

    def forward(self, recommender, batch):
        return torch.cat(recommender.tables()).sum()


class Nothing(Loss):
    def forward(self, recommender, batch):
        return torch.zeros(())


def prepared(loss, kind=LightGCN, layers=2, without_text=()):
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(USERS + ITEMS, SIZE, generator=generator)
    texts[:, 0] = 0  # a vector with a 0 in it is a text
    texts[list(without_text)] = 0
    rows = texts.tolist()
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(USERS)], "vector": rows[:USERS]})
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "vector": rows[USERS:]})
    catalog = Catalog(items, users)
    frame = pl.DataFrame([(f"u{u}", f"i{i}") for u, i in PAIRS], schema=["user_id", "item_id"], orient="row")
    interactions = Interactions.from_frame(frame, catalog)
    torch.manual_seed(1)
    model = kind(catalog, dim=DIM, num_layers=layers)
    model.fit(interactions)
    loss.prepare(model, catalog)
    loss.fit(interactions)
    return model.train(), interactions


STEP = Batch.of(
    torch.zeros(6, 1, dtype=torch.long),
    user=torch.tensor([1, 1, 3, 3, 4, 1]),
    labels=torch.tensor([1, 2, 5, 6, 6, 1])[:, None],
)
"""Users 1, 3 and 4; items 1, 2, 5 and 6, of which two occur twice."""


def adjacency(edges=PAIRS):
    """D^-1/2 A D^-1/2 over users and items, each with a row of padding before it."""
    a = np.zeros((FIRST + ITEMS + 1,) * 2)
    for u, i in edges:
        a[u + 1, FIRST + i + 1] = a[FIRST + i + 1, u + 1] = 1
    degree = np.maximum(a.sum(1), 1)
    return a / np.sqrt(degree[:, None] * degree[None])


def layer_0(model):
    return np.concatenate([model.users.weight.detach().numpy(), model.items.table().detach().numpy()]).astype(
        float
    )


def smoothed(matrix, x, layers, first=0):
    powers = [x]
    for _ in range(layers):
        powers.append(matrix @ powers[-1])
    return np.mean(powers[first:], axis=0)


def nce(anchors, pool, partners, t):
    """(N,) -log of the softmax over cosines, at each anchor's partner."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (anchors, pool)]
    logits = unit[0] @ unit[1].T / t
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(anchors)), partners]


def between(one, other, t):
    """Users 1, 3, 4 among themselves, then items 1, 2, 5, 6; each once."""
    groups = [[1, 3, 4], [FIRST + item for item in (1, 2, 5, 6)]]
    return sum(nce(one[nodes], other[nodes], np.arange(len(nodes)), t).mean() for nodes in groups)


@pytest.mark.parametrize("t", [0.2, 0.9])
def test_info_nce_with_its_gradients(t):
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(n, 3, generator=generator, dtype=torch.float64).requires_grad_() for n in (4, 6)]
    places, counts = torch.tensor([5, 0, 0, 3]), torch.tensor([1, 4, 2, 1])
    found = info_nce(*given, places, t, counts)
    each = nce(given[0].detach().numpy(), given[1].detach().numpy(), places.numpy(), t)
    assert found.item() == pytest.approx((each * counts.numpy()).sum() / 8)
    assert info_nce(*given, places, t).item() == pytest.approx(each.mean())
    logits = torch.cosine_similarity(given[0][:, None], given[1][None], dim=2) / t
    plain = (torch.nn.functional.cross_entropy(logits, places, reduction="none") * counts).sum() / 8
    for mine, expected in zip(
        torch.autograd.grad(found, given), torch.autograd.grad(plain, given), strict=True
    ):
        assert torch.allclose(mine, expected, rtol=1e-5)


def test_views_are_compared_node_by_node():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(8, 3, generator=generator) for _ in range(2))
    nodes = [6, 1, 4]
    expected = nce(one[nodes].double().numpy(), other[nodes].double().numpy(), np.arange(3), 0.3).mean()
    assert view_contrast(one, other, torch.tensor(nodes), 0.3).item() == pytest.approx(expected, **CLOSE)


def test_the_pool_of_sgl_may_be_all_users_and_all_items():
    loss = DroppedEdges(base=Nothing(), weight=0.3, temperature=0.4, drop=0.35, pool="all")
    model, _ = prepared(loss, SGL)
    found = loss(model, STEP).item()
    one, other = (view.detach().numpy().astype(float) for view in loss.views(model, STEP))
    users, items = np.arange(1, FIRST), np.arange(FIRST + 1, FIRST + ITEMS + 1)
    total = nce(one[[1, 3, 4]], other[users], [0, 2, 3], 0.4).mean()
    total += nce(one[[FIRST + i for i in (1, 2, 5, 6)]], other[items], [0, 1, 4, 5], 0.4).mean()
    assert found == pytest.approx(0.3 * total, **CLOSE)
    assert found > 0.3 * between(one, other, 0.4)  # there is more to be told apart from


@pytest.mark.parametrize("base", [Nothing(), Sum()])
def test_sgl_is_the_ranking_loss_and_the_contrast_of_two_graphs_that_lack_edges(base):
    loss = DroppedEdges(base=base, weight=0.3, temperature=0.4, drop=0.35)
    model, _ = prepared(loss, SGL)
    found = loss(model, STEP).item()
    generator = torch.Generator().manual_seed(int(loss.progress[1]))
    views = []
    for _ in range(2):
        kept = drop_edges(model.graph.matrix(), 0.35, generator).to_dense().numpy()
        edges = [(u - 1, i - 1) for u, i in np.argwhere(kept[:FIRST, FIRST:])]
        assert len(edges) == len(PAIRS) - 4
        assert set(edges) < set(PAIRS)
        views.append(smoothed(adjacency(edges), layer_0(model), 2))
    assert not np.allclose(*views)
    ranked = smoothed(adjacency(), layer_0(model), 2).sum() if isinstance(base, Sum) else 0
    assert found == pytest.approx(ranked + 0.3 * between(*views, 0.4), **CLOSE)


@pytest.mark.parametrize("base", [Nothing(), Sum()])
def test_simgcl_is_the_ranking_loss_and_the_contrast_of_two_noisy_views(base):
    loss = NoisyViews(base=base, weight=0.3, temperature=0.4, noise=0.2)
    model, _ = prepared(loss, SimGCL)
    torch.manual_seed(3)
    found = loss(model, STEP).item()
    torch.manual_seed(3)
    matrix, views = adjacency(), []
    for _ in range(2):
        layer, layers = layer_0(model), []
        for _ in range(2):
            layer = matrix @ layer
            step = torch.rand(*layer.shape).numpy().astype(float)
            layer = layer + 0.2 * np.sign(layer) * step / np.linalg.norm(step, axis=1, keepdims=True)
            layers.append(layer)
        views.append(np.mean(layers, axis=0))
    ranked = smoothed(matrix, layer_0(model), 2, first=1).sum() if isinstance(base, Sum) else 0
    assert found == pytest.approx(ranked + 0.3 * between(*views, 0.4), **CLOSE)


def test_noise_is_added_to_layer_0_in_the_mean_where_the_model_keeps_it():
    model, _ = prepared(Nothing(), LightGCN, layers=1)
    torch.manual_seed(3)
    found = model.view(noise=0.2).detach().numpy()
    torch.manual_seed(3)
    x = layer_0(model)
    moved, step = adjacency() @ x, torch.rand(len(x), DIM).numpy().astype(float)
    moved += 0.2 * np.sign(moved) * step / np.linalg.norm(step, axis=1, keepdims=True)
    assert np.allclose(found, (x + moved) / 2, atol=1e-6)


def through(network, x):
    """Two linear layers with LeakyReLU between them."""
    w1, b1, w2, b2 = (p.detach().numpy().astype(float) for p in network.parameters())
    hidden = x @ w1.T + b1
    return np.where(hidden > 0, hidden, 0.01 * hidden) @ w2.T + b2


def moved_biases(loss):
    """New biases are 0; others show that they are used."""
    assert all((layer.bias == 0).all() for layer in (loss.network[0], loss.network[2]))
    torch.manual_seed(4)
    for layer in (loss.network[0], loss.network[2]):
        torch.nn.init.normal_(layer.bias, std=0.5)


@pytest.mark.parametrize(
    "without", [(), (2, USERS + 1, USERS + 4)], ids=["all texts", "without those of user 3, items 2 and 5"]
)
def test_rlmrec_con_by_its_three_sums(without):
    loss = RLMRecCon(base=Sum(), weight=0.3, temperature=0.4)
    model, interactions = prepared(loss, without_text=without)
    moved_biases(loss)
    torch.manual_seed(3)
    found = loss(model, STEP).item()
    torch.manual_seed(3)
    negatives = (FIRST + interactions.draw_unseen(STEP.user, 1)[:, 0]).tolist()
    final, s = smoothed(adjacency(), layer_0(model), 2), loss.vectors.numpy().astype(float)
    has = {node for node in range(1, FIRST + ITEMS + 1) if np.abs(s[node]).sum() > 0}
    assert len(has) == USERS + ITEMS - len(without)
    items = (FIRST + STEP.labels[:, 0]).tolist()
    total = 0.0
    for nodes, pool in (
        (STEP.user.tolist(), range(1, FIRST)),
        (items, sorted(set(items))),
        (negatives, sorted(set(negatives))),
    ):
        pool, named = [n for n in pool if n in has], [n for n in nodes if n in has]
        texts = through(loss.network, s[pool])
        total += nce(final[named], texts, [pool.index(n) for n in named], 0.4).sum() / len(nodes)
    assert found == pytest.approx(final.sum() + 0.3 * total, **CLOSE)


@pytest.mark.parametrize("weight", [0.3, 0.0])
def test_rlmrec_gen_by_the_texts_of_what_it_hides(weight):
    loss = RLMRecGen(base=Sum(), weight=weight, temperature=0.4, ratio=0.6)
    model, _ = prepared(loss, without_text=(1, USERS + 3))
    moved_biases(loss)
    torch.nn.init.normal_(loss.token)
    torch.manual_seed(3)
    found = loss(model, STEP).item()
    torch.manual_seed(3)
    order = torch.randperm(USERS + ITEMS)[:7].numpy()  # int(.6 * 12)
    hidden = np.sort(np.where(order < USERS, order + 1, order + 2))
    x = layer_0(model)
    x[hidden] = loss.token.detach().numpy()
    final, s = smoothed(adjacency(), x, 2), loss.vectors.numpy().astype(float)
    named = [n for n in hidden if np.abs(s[n]).sum() > 0]
    assert 1 < len(named) < 7
    aligned = nce(through(loss.network, final[named]), s[named], np.arange(len(named)), 0.4).mean()
    assert found == pytest.approx(final.sum() + weight * aligned, **CLOSE)


def test_hidden_nodes_are_users_and_items_and_never_padding():
    loss = RLMRecGen(ratio=0.5)
    model, _ = prepared(loss)
    torch.manual_seed(0)
    draws = [loss.draw_hidden(model).tolist() for _ in range(60)]
    assert all(len(set(one)) == 6 and one == sorted(one) for one in draws)
    assert {node for one in draws for node in one} == set(range(1, FIRST + ITEMS + 1)) - {FIRST}


def test_a_shuffled_control_is_a_function_of_nothing_but_the_data():
    both = [RLMRecCon(shuffled=True), RLMRecGen(shuffled=True)]
    for loss in both:
        torch.manual_seed(len(both))
        prepared(loss)
    assert torch.equal(both[0].vectors, both[1].vectors)


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        (DroppedEdges, {"weight": 0.1, "temperature": 0.2, "drop": 0.1, "pool": "batch"}),
        (NoisyViews, {"weight": 0.5, "temperature": 0.2, "noise": 0.1}),
        (RLMRecCon, {"weight": 0.01, "temperature": 0.2, "shuffled": False}),
        (RLMRecGen, {"weight": 0.1, "temperature": 0.5, "ratio": 0.15, "shuffled": False}),
        (LightGCN, {"dim": 64, "num_layers": 3, "item_input": "id"}),
    ],
)
def test_defaults(kind, published):
    found = {name: option.default for name, option in inspect.signature(kind).parameters.items()}
    assert {name: found[name] for name in published} == published


@pytest.mark.parametrize("kind", [DroppedEdges, NoisyViews])
def test_the_ranking_loss_beside_a_contrast_is_bpr_with_the_penalty_of_lightgcn(kind):
    base = kind().base
    assert isinstance(base, BPR)
    assert base.l2 == pytest.approx(1e-4)
