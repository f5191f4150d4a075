import numpy as np
import polars as pl
import pytest
import torch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom_graph.graphs.backends import product
from recloom_graph.graphs.dataset_graphs import bipartite
from recloom_graph.graphs.sparse import StoredMatrix, csr, halves, transition
from recloom_graph.models.propagation import propagate


def interactions(pairs: list[tuple[str, str]], items: int = 4, users: int = 3) -> Interactions:
    catalog = Catalog(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(1, items + 1)]}),
        pl.DataFrame({"user_id": [f"u{n}" for n in range(1, users + 1)]}),
    )
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    return Interactions.from_frame(frame, catalog)


def random_pairs(users: int, items: int, share: float, seed: int) -> list[tuple[str, str]]:
    drawn = np.argwhere(np.random.default_rng(seed).random((users, items)) < share)
    return [(f"u{u + 1}", f"i{i + 1}") for u, i in drawn]


def random_graph(seed: int = 0) -> torch.Tensor:
    return bipartite(interactions(random_pairs(20, 30, 0.15, seed), 30, 20)).symmetric


def test_a_pair_that_occurs_twice_is_one_edge():
    graph = bipartite(interactions([("u1", "i2"), ("u1", "i2"), ("u1", "i1"), ("u2", "i2")])).matrix
    dense = graph.to_dense()  # nodes: -, u1, u2, u3, -, i1, i2, i3, i4
    assert graph.values().tolist() == [1] * 6
    assert torch.equal(dense, dense.T)
    assert dense[1].tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0]


@pytest.mark.fact("A9.4")
def test_entries_are_one_over_the_root_of_both_degrees():
    dense = bipartite(interactions([("u1", "i1"), ("u1", "i2"), ("u2", "i2")])).symmetric.to_dense()
    assert dense[1, 5] == pytest.approx(1 / np.sqrt(2 * 1))
    assert dense[1, 6] == pytest.approx(1 / np.sqrt(2 * 2))
    assert dense[6, 2] == pytest.approx(1 / np.sqrt(2 * 1))


@pytest.mark.fact("A9.4")
def test_spectral_radius_is_one():
    values = torch.linalg.eigvalsh(random_graph().to_dense().double())
    assert float(values.max()) == pytest.approx(1, abs=1e-6)
    assert float(values.min()) == pytest.approx(-1, abs=1e-6)


@pytest.mark.fact("A9.4")
def test_a_node_without_edges_gives_zero_not_nan():
    adjacency = bipartite(interactions([("u1", "i1")])).symmetric
    smoothed = adjacency @ torch.ones(9, 2)
    assert torch.isfinite(smoothed).all()
    assert smoothed[:, 0].tolist() == [0, 1, 0, 0, 0, 1, 0, 0, 0]


def test_columns_of_the_transition_sum_to_one_or_zero():
    walk = transition(csr(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), 3)).to_dense()
    assert walk.sum(0).tolist() == [1, 1, 0]
    assert walk[1, 0] == 0.5


def test_halves_are_the_two_blocks():
    adjacency = random_graph()
    upper, lower = halves(adjacency, 21)
    dense = adjacency.to_dense()
    assert torch.equal(upper.to_dense(), dense[:21, 21:])
    assert torch.equal(lower.to_dense(), dense[21:, :21])


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.fact("A9.4")
def test_propagation_is_the_mean_of_the_layers(layers):
    adjacency, x = random_graph(), torch.randn(52, 5)
    dense, power, total = adjacency.to_dense(), x, x.clone()
    for _ in range(layers):
        power = dense @ power
        total += power
    assert torch.allclose(propagate(product(adjacency), x, layers), total / (layers + 1), atol=1e-6)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_gradient_equals_that_of_a_dense_product(layers):
    adjacency, weight = random_graph(), torch.randn(52, 5)
    x = torch.randn(52, 5, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    (propagate(product(adjacency), x, layers).tanh() * weight).sum().backward()
    dense, total, power = adjacency.to_dense(), y, y
    for _ in range(layers):
        power = dense @ power
        total = total + power
    ((total / (layers + 1)).tanh() * weight).sum().backward()
    assert torch.allclose(x.grad, y.grad, atol=1e-6)


def test_a_graph_survives_a_checkpoint():
    graph, again = StoredMatrix(), StoredMatrix()
    graph.store(random_graph())
    state = graph.state_dict()
    for name, value in state.items():
        setattr(again, name, torch.empty_like(value))
    again.load_state_dict(state)
    assert torch.equal(again.matrix().to_dense(), graph.matrix().to_dense())


def test_an_empty_graph_says_what_to_do():
    with pytest.raises(RecloomError, match=r"no graph yet.*fit\(interactions\)"):
        StoredMatrix().matrix()


def test_indices_that_point_outside_are_refused():
    graph = StoredMatrix()
    graph.store(random_graph())
    state = graph.state_dict()
    state["col"] = state["col"].clone()
    state["col"][0] = 10**6
    with pytest.raises(RecloomError, match="graph in the checkpoint is damaged"):
        graph.load_state_dict(state)
