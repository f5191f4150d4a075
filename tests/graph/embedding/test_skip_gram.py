"""DeepWalk and node2vec vectors: the loss by its definition, reproducible, and close where walks meet."""

from __future__ import annotations

import math

import pytest
import torch
from recloom.errors import DataError, RecloomError
from recloom_graph.embedding.skip_gram import SkipGram, WalkBatches, noise_weights
from recloom_graph.embedding.training import train
from recloom_graph.embedding.walks import END, Walker
from recloom_graph.graphs.graph import Graph
from torch.nn.functional import logsigmoid, normalize


def graph(*pairs: tuple[int, int], nodes: int, weights=None, directed: bool = False) -> Graph:
    ends = torch.tensor(pairs)
    return Graph(ends[:, 0], ends[:, 1], nodes, weights, directed=directed)


def two_blocks(size: int = 40, within: float = 0.3, between: float = 0.03) -> Graph:
    """A stochastic block model of two blocks, nodes of the second from `size` on."""
    generator = torch.Generator().manual_seed(1)
    sources, targets = torch.triu_indices(2 * size, 2 * size, 1)
    chance = torch.where((sources < size) == (targets < size), within, between)
    kept = torch.rand(len(sources), generator=generator) < chance
    return Graph(sources[kept], targets[kept], 2 * size, directed=False)


def purity(vectors: torch.Tensor, size: int = 40) -> float:
    """Share of the nodes whose nearest by cosine is of their own block."""
    unit = normalize(vectors, dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(1)
    block = torch.arange(2 * size) >= size
    return (block[nearest] == block).float().mean().item()


PATH = graph((0, 1), (1, 2), (2, 3), (3, 4), nodes=5)


def loss_by_definition(model: SkipGram, walks: torch.Tensor, noise: torch.Tensor) -> float:
    """Pair by pair; each pair meets the nodes drawn for its walk, of which `negatives` count."""
    z, w = model.centres.weight.detach().double(), model.contexts.weight.detach().double()
    told, pairs = 0.0, 0
    for walk, others in zip(walks.tolist(), noise.tolist(), strict=True):
        for at, centre in enumerate(walk):
            for near, other in enumerate(walk):
                if at == near or abs(at - near) >= model.context or END in (centre, other):
                    continue
                pairs += 1
                told -= float(logsigmoid(z[centre] @ w[other]))
                far = [float(logsigmoid(-z[centre] @ w[node])) for node in others]
                told -= model.negatives * sum(far) / len(far)
    return told / pairs


@pytest.mark.fact("A9.2")
def test_the_loss_is_that_of_the_definition():
    model = SkipGram(PATH, dim=3, context=3, negatives=2, walk_length=5)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.centres.weight)
    torch.nn.init.normal_(model.contexts.weight)
    walks = torch.tensor([[0, 1, 2, 1, 0], [3, 4, 3, END, END], [2, END, END, END, END]])
    noise = torch.tensor([[0, 1, 2, 3], [4, 4, 1, 0], [2, 2, 2, 2]])
    assert model.loss(walks, noise).item() == pytest.approx(loss_by_definition(model, walks, noise), rel=1e-5)


@pytest.mark.fact("A9.2")
def test_at_first_every_pair_costs_one_and_k_times_log_2():
    """The contexts begin at 0, so every product is 0."""
    model = SkipGram(PATH, dim=4, negatives=5)
    walks, noise = next(iter(model.batches))
    assert model.loss(walks, noise).item() == pytest.approx(6 * math.log(2), rel=1e-5)


@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (1.0, 0.5), (2.0, 4.0)])
@pytest.mark.fact("A9.2")
def test_vectors_separate_two_blocks(p, q):
    model = SkipGram(two_blocks(), dim=16, p=p, q=q, walk_length=20, context=5, walks=5, batch_size=8)
    at_first = purity(model.vectors())
    losses = train(model, 3)
    assert at_first < 0.7
    assert purity(model.vectors()) > 0.9
    assert losses[-1] < losses[0]
    assert model.known.all()


@pytest.mark.fact("A9.2")
def test_a_large_q_gives_pairs_of_near_nodes():
    """On a long path, nodes of one window are fewer steps apart where walks stay local."""
    path = graph(*[(n, n + 1) for n in range(300)], nodes=301)

    def reach(q: float) -> float:
        batches = SkipGram(path, dim=2, q=q, walk_length=30, walks=1, batch_size=301).batches
        walks, _ = next(iter(batches))
        return (walks - walks[:, :1]).abs().float().mean().item()

    assert reach(100.0) < 1.5 < 4 < reach(0.01)


@pytest.mark.fact("A9.2")
def test_defaults_are_those_of_ogb_but_for_half_the_walk_and_half_the_context():
    model = SkipGram(PATH)
    assert (model.centres.weight.shape[1], model.batches.rounds, model.lr) == (128, 10, 0.01)
    assert (model.walk_length, model.context) == (80 // 2, 20 // 2)


def test_the_same_seed_gives_the_same_vectors_and_another_one_others():
    def vectors(seed: int) -> torch.Tensor:
        model = SkipGram(PATH, dim=4, walks=2, walk_length=6, context=3, seed=seed)
        train(model, 2)
        return model.vectors()

    assert torch.equal(vectors(3), vectors(3))
    assert not torch.equal(vectors(3), vectors(4))


def test_large_graphs_are_trained_row_by_row_and_come_out_alike():
    small = SkipGram(two_blocks(), dim=8, walk_length=10, context=4, walks=2, batch_size=2, negatives=1)
    assert small.sparse
    assert isinstance(small.configure_optimizers(), torch.optim.SparseAdam)
    dense = SkipGram(two_blocks(), dim=8, walk_length=10, context=4, walks=2, batch_size=40, negatives=1)
    assert isinstance(dense.configure_optimizers(), torch.optim.Adam)
    train(small, 3)
    assert purity(small.vectors()) > 0.9


def test_every_node_begins_as_many_walks_as_there_are_rounds_and_blocks_bound_memory(monkeypatch):
    from recloom_graph.embedding import skip_gram

    for block in (1 << 20, 12):
        monkeypatch.setattr(skip_gram, "BLOCK", block)
        batches = WalkBatches(Walker(PATH), PATH, length=4, rounds=3, batch_size=2, noise=5, seed=0)
        drawn = list(batches)
        assert len(drawn) == len(batches)
        starts = torch.cat([walks[:, 0] for walks, _ in drawn])
        assert torch.bincount(starts).tolist() == [3] * 5
        assert all(walks.shape[1] == 4 and noise.shape == (len(walks), 5) for walks, noise in drawn)
        again = torch.cat([walks for walks, _ in batches])
        assert not torch.equal(again, torch.cat([walks for walks, _ in drawn])), "an epoch draws anew"


def test_other_nodes_are_drawn_with_the_three_quarters_power_of_their_weights():
    star = graph((0, 1), (0, 2), (0, 3), nodes=5, weights=torch.tensor([16.0, 1.0, 1.0]))
    assert noise_weights(star).tolist() == pytest.approx([18**0.75, 8.0, 1.0, 1.0, 0.0])
    batches = WalkBatches(Walker(star), star, length=2, rounds=1, batch_size=1, noise=40_000, seed=0)
    share = torch.bincount(batches.others(1)[0], minlength=5) / 40_000
    expected = noise_weights(star) / noise_weights(star).sum()
    assert share.tolist() == pytest.approx(expected.tolist(), abs=0.01)


def test_nodes_that_no_walk_visited_have_no_vector():
    chain = graph((0, 1), (1, 2), nodes=4, directed=True)
    model = SkipGram(chain, dim=2, walk_length=3, context=2)
    train(model, 1)
    assert model.known.tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"context": 1}, "context must be at least 2"),
        ({"walk_length": 1}, "walk_length must be at least 2"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"p": 0.0}, "p must be above 0"),
        ({"negatives": 0}, "negatives must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(RecloomError, match=message):
        SkipGram(PATH, **options)


def test_a_graph_without_edges_is_refused():
    nothing = torch.zeros(0, dtype=torch.long)
    with pytest.raises(DataError, match="has no edge, so no walk takes a step"):
        SkipGram(Graph(nothing, nothing, 3, directed=False))
