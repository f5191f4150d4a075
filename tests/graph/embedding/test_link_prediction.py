"""The course's shallow embedding on the karate club, and what it knows of edges that it was not shown."""

from __future__ import annotations

import math

import networkx
import pytest
import torch
from recloom.errors import RecloomError
from recloom_graph.embedding.link_prediction import LinkEmbedding
from recloom_graph.embedding.training import train
from recloom_graph.graphs.convert import from_networkx, to_networkx
from recloom_graph.graphs.graph import Graph

KARATE = from_networkx(networkx.karate_club_graph(), weight=None)


def grid_of_cliques(cliques: int = 12, size: int = 8) -> Graph:
    """Cliques that lack a fifth of their edges: what is missing can be told from what is there."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.triu_indices(size, size, 1)
    sources, targets = (torch.cat([part + size * n for n in range(cliques)]) for part in pairs)
    kept = torch.rand(len(sources), generator=generator) < 0.8
    return Graph(sources[kept], targets[kept], cliques * size, directed=False)


@pytest.mark.fact("A9.2")
def test_statistics_of_the_karate_club():
    assert (KARATE.num_nodes, KARATE.num_edges) == (34, 78)
    assert KARATE.degree.mean().item() == pytest.approx(4.59, abs=0.005)
    back = to_networkx(KARATE)
    assert networkx.average_clustering(back) == pytest.approx(0.57, abs=0.005)
    assert networkx.closeness_centrality(back, 5) == pytest.approx(0.38, abs=0.005)


@pytest.mark.fact("A9.2")
def test_at_first_every_pair_looks_like_an_edge():
    losses = []
    for seed in range(40):
        model = LinkEmbedding(KARATE, held_out=0.0, resample=False, seed=seed)
        assert model.accuracy() == 0.5
        assert 0 <= model.nodes.weight.min() < 0.1 < 0.9 < model.nodes.weight.max() < 1
        ((pairs, labels),) = model.batches
        assert len(pairs) == 2 * labels.sum() == 156
        losses.append(model.loss(pairs, labels).item())
    assert sum(losses) / len(losses) == pytest.approx(2.03, abs=0.05)
    assert all(loss == pytest.approx(2.03, abs=0.4) for loss in losses)
    assert torch.tensor(losses).std().item() == pytest.approx(0.11, abs=0.03)


@pytest.mark.fact("A9.2")
def test_500_epochs_memorise_the_karate_club():
    model = LinkEmbedding(KARATE, held_out=0.0, resample=False)
    assert (model.nodes.weight.shape, model.lr, model.momentum) == ((34, 16), 0.1, 0.9)
    losses = train(model, 500)
    assert len(losses) == 500
    assert losses[0] == pytest.approx(2.03, abs=0.4)
    assert losses[-1] < 0.05
    assert model.accuracy() > 0.98
    assert math.isnan(model.auc())


@pytest.mark.fact("A9.2")
def test_held_out_edges_are_found_where_there_is_something_to_find():
    model = LinkEmbedding(grid_of_cliques(), held_out=0.1)
    at_first = model.auc()
    train(model, 400)
    assert abs(at_first - 0.5) < 0.2
    assert model.auc() > 0.9
    assert model.accuracy() > 0.75


def test_non_edges_are_drawn_anew_in_every_epoch_or_once():
    for resample in (True, False):
        batches = LinkEmbedding(KARATE, resample=resample).batches
        (first,), (second,) = list(batches), list(batches)
        edges = len(batches.split.edges)
        assert torch.equal(first[0][:edges], second[0][:edges])
        assert torch.equal(first[0][edges:], second[0][edges:]) is not resample


def test_the_loss_by_hand():
    """Products 2 and 0: log(1 + e^-2) = .126928 for an edge, log 2 = .693147 for a non-edge."""
    model = LinkEmbedding(KARATE, dim=2)
    model.nodes.weight.data[:3] = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    pairs, labels = torch.tensor([[0, 1], [0, 2]]), torch.tensor([1.0, 0.0])
    assert model.scores(pairs).tolist() == [2.0, 0.0]
    assert model.loss(pairs, labels).item() == pytest.approx((0.126928 + 0.693147) / 2, rel=1e-5)


def test_many_pairs_take_several_steps_of_an_epoch_and_each_is_seen_once():
    model = LinkEmbedding(KARATE, held_out=0.0, resample=False, batch_size=50)
    drawn = list(model.batches)
    assert len(drawn) == len(model.batches) == 4
    pairs = torch.cat([pairs for pairs, _ in drawn])
    every = torch.cat([model.split.edges, model.split.non_edges])
    assert sorted(pairs.tolist()) == sorted(every.tolist())
    labels = torch.cat([labels for _, labels in drawn])
    edges = {tuple(pair) for pair in model.split.edges.tolist()}
    assert all(
        (tuple(pair) in edges) == bool(label) for pair, label in zip(pairs.tolist(), labels, strict=True)
    )


def test_the_same_seed_gives_the_same_vectors():
    def vectors(seed: int) -> torch.Tensor:
        model = LinkEmbedding(KARATE, seed=seed, batch_size=40)
        train(model, 3)
        return model.vectors()

    assert torch.equal(vectors(1), vectors(1))
    assert not torch.equal(vectors(1), vectors(2))


def test_a_node_whose_edges_are_all_held_out_is_not_known():
    star = Graph(torch.zeros(9, dtype=torch.long), torch.arange(1, 10), 12, directed=False)
    model = LinkEmbedding(star, held_out=0.5)
    trained = set(model.split.edges.reshape(-1).tolist())
    assert {node for node in range(12) if model.known[node]} == trained
    assert not model.known[10:].any()
    assert len(trained) < 10


def test_steps_grow_with_the_nodes_as_a_node_has_a_smaller_share_of_the_pairs():
    assert LinkEmbedding(grid_of_cliques()).lr == pytest.approx(0.1 * 96 / 34)
    assert LinkEmbedding(grid_of_cliques(), lr=0.5).lr == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"lr": -1.0}, "lr must be above 0"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1; found 1.0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"held_out": 1.5}, "held_out must be at least 0 and below 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(RecloomError, match=message):
        LinkEmbedding(KARATE, **options)


def test_a_loss_that_is_not_finite_ends_training():
    with pytest.raises(RecloomError, match=r"in epoch \d+ the loss is (nan|inf); .* choose a smaller --lr"):
        train(LinkEmbedding(KARATE, lr=1e30), 20)
