import os
from pathlib import Path
from time import process_time

import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom_graph.graphs.graph import Graph
from recloom_graph.pagerank.push import forward_push
from recloom_graph.pagerank.ranks import pagerank, personalised_pagerank
from recloom_graph.pagerank.recommender import PersonalizedPageRank


def edges(*pairs: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(pairs).T)


def one_hot(size: int, *nodes: int) -> torch.Tensor:
    return torch.eye(size)[:, list(nodes)]


def catalog(users: int, items: int) -> Catalog:
    return Catalog(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(1, items + 1)]}),
        pl.DataFrame({"user_id": [f"u{n}" for n in range(1, users + 1)]}),
    )


def fitted(pairs: list[tuple[int, int]], users: int, items: int, **options) -> PersonalizedPageRank:
    known = catalog(users, items)
    frame = pl.DataFrame([(f"u{u}", f"i{i}") for u, i in pairs], schema=["user_id", "item_id"], orient="row")
    model = PersonalizedPageRank(known, **options)
    model.fit(Interactions.from_frame(frame, known))
    return model


def random_edges(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    adjacency = np.random.default_rng(seed).random((size, size)) < 0.1
    adjacency[3] = False  # dangling
    return edges(*np.argwhere(adjacency).tolist())


def solved(sources: torch.Tensor, targets: torch.Tensor, restart: np.ndarray, damping: float) -> np.ndarray:
    """The stationary distribution by a dense linear solve in float64."""
    size = len(restart)
    step = np.zeros((size, size))
    step[targets.numpy(), sources.numpy()] = 1
    out = step.sum(0)
    step = np.where(out > 0, step / np.maximum(out, 1), restart[:, None])
    return np.linalg.solve(np.eye(size) - damping * step, (1 - damping) * restart)


@pytest.mark.fact("A9.1")
def test_pagerank_of_a_triangle_with_a_shortcut():
    ranks = pagerank(Graph(*edges((0, 1), (0, 2), (1, 2), (2, 0)), 3))
    assert ranks.numpy() == pytest.approx([0.3878, 0.2148, 0.3974], abs=5e-5)


@pytest.mark.fact("A9.1")
def test_pagerank_of_a_chain_whose_end_restarts():
    ranks = pagerank(Graph(*edges((0, 1), (1, 2)), 3))
    assert ranks.numpy() == pytest.approx([0.1844, 0.3412, 0.4744], abs=5e-5)


BIPARTITE = [(0, 2), (0, 3), (1, 3), (1, 4)]  # u1, u2, i1, i2, i3
EXPECTED = {"i1": 0.577381, "u1": 0.309524, "i2": 0.083333, "u2": 0.023810, "i3": 0.005952}


@pytest.mark.fact("A9.1")
def test_restart_on_one_item_of_a_bipartite_graph():
    both = edges(*BIPARTITE, *[(b, a) for a, b in BIPARTITE])
    walk = Graph(*both, 5).transition
    ranks = personalised_pagerank(walk, one_hot(5, 2), damping=0.5, tolerance=1e-8)[:, 0]
    assert ranks[[2, 0, 3, 1, 4]].numpy() == pytest.approx(list(EXPECTED.values()), abs=2e-6)


@pytest.mark.fact("A9.1")
def test_the_recommender_ranks_i2_above_i3():
    model = fitted([(1, 1), (1, 2), (2, 2), (2, 3)], 2, 3, damping=0.5, tolerance=1e-9)
    scores = model.score(Batch.of(torch.tensor([[1]]), torch.tensor([[1, 2, 3]])))[0]
    assert scores.numpy() == pytest.approx([EXPECTED[i] for i in ("i1", "i2", "i3")], abs=1e-6)


@pytest.mark.parametrize("damping", [0.5, 0.85])
@pytest.mark.fact("A9.1")
def test_equals_a_dense_solve_with_many_restarts_and_dangling_nodes(damping):
    sources, targets = random_edges(40, 1)
    restart = np.random.default_rng(2).dirichlet(np.ones(40), 7).T
    walk = Graph(sources, targets, 40).transition
    found = personalised_pagerank(walk, torch.from_numpy(restart).float(), damping, tolerance=1e-9)
    wanted = np.stack([solved(sources, targets, v, damping) for v in restart.T], 1)
    assert np.abs(found.numpy() - wanted).max() < 1e-6
    assert found.sum(0).numpy() == pytest.approx(np.ones(7), abs=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_an_undirected_graph_has_the_ranks_of_networkx_and_of_the_power_iteration(weighted):
    networkx = pytest.importorskip("networkx")
    rng = np.random.default_rng(4)
    ends = np.argwhere(np.triu(rng.random((60, 60)) < 0.08))  # with loops
    ends = ends[(ends != 7).all(1)]  # without an edge: all that restarts there is stuck
    weights = rng.random(len(ends)) + 0.1 if weighted else np.ones(len(ends))
    restart = rng.dirichlet(np.ones(60), 70).T  # more than one block
    restart[:, 0] = np.eye(60)[7]
    given = torch.from_numpy(weights).float() if weighted else None
    graph = Graph(*edges(*ends.tolist()), 60, given, directed=False)
    found = pagerank(graph, torch.from_numpy(restart).float(), tolerance=1e-10)
    power = personalised_pagerank(graph.transition, torch.from_numpy(restart).float(), tolerance=1e-10)
    assert torch.allclose(found, power, atol=1e-6)
    peer = networkx.Graph()
    peer.add_nodes_from(range(60))
    peer.add_weighted_edges_from((a, b, w) for (a, b), w in zip(ends.tolist(), weights, strict=True))
    for column in (0, 1, 69):
        wanted = networkx.pagerank(
            peer, 0.85, dict(enumerate(restart[:, column])), tol=1e-12, max_iter=1000,
            dangling=dict(enumerate(restart[:, column])),
        )  # fmt: skip
        assert found[:, column].numpy() == pytest.approx([wanted[node] for node in range(60)], abs=1e-6)
    uniform = pagerank(graph, tolerance=1e-10).numpy()
    assert uniform == pytest.approx(list(networkx.pagerank(peer, tol=1e-12).values()), abs=1e-6)


def test_a_loose_tolerance_is_a_walk_all_the_same():
    graph = Graph(*edges(*BIPARTITE), 5, directed=False)
    ranks = pagerank(graph, one_hot(5, 2, 0), tolerance=1e3)
    assert ranks.sum(0).numpy() == pytest.approx([1, 1])
    assert (ranks >= 0).all()


def test_walks_of_a_batch_do_not_depend_on_each_other():
    rng = np.random.default_rng(0)
    pairs = [(int(u) + 1, int(i) + 1) for u, i in np.argwhere(rng.random((30, 50)) < 0.1)]
    model = fitted(pairs, 30, 50, tolerance=1e-5)
    history = torch.from_numpy(rng.integers(0, 51, (40, 6)))
    together = model.ranks(history)
    alone = torch.cat([model.ranks(row[None]) for row in history])
    assert torch.allclose(together, alone, atol=1e-7)


@pytest.mark.fact("A9.1")
def test_damping_zero_returns_the_restart():
    sources, targets = random_edges(40, 1)
    restart = one_hot(40, 5, 9)
    assert torch.equal(
        personalised_pagerank(Graph(sources, targets, 40).transition, restart, damping=0), restart
    )


@pytest.mark.fact("A9.1")
def test_disconnected_items_get_nothing():
    model = fitted([(1, 1), (1, 2), (2, 3), (2, 4)], 2, 5)
    scores = model.score(Batch.of(torch.tensor([[1]]), torch.arange(1, 6)[None]))[0]
    assert scores[2:].tolist() == [0, 0, 0]
    assert (scores[:2] > 0).all()


@pytest.mark.fact("A9.1")
def test_a_single_step_on_the_karate_club():
    networkx = pytest.importorskip("networkx")
    club = networkx.karate_club_graph()
    both = edges(*club.edges, *[(b, a) for a, b in club.edges])
    assert pagerank(Graph(*both, 34), damping=0.8, tolerance=10)[0] == pytest.approx(0.13, abs=0.005)
    assert pagerank(Graph(*both, 34), tolerance=1e-9)[0] == pytest.approx(0.0970, abs=5e-5)


def test_it_stops_by_tolerance():
    sources, targets = random_edges(40, 1)
    coarse = pagerank(Graph(sources, targets, 40), tolerance=1e-3)
    fine = pagerank(Graph(sources, targets, 40), tolerance=1e-9)
    error = (coarse - fine).abs().sum()
    assert 1e-6 < error < 40 * 1e-3 / (1 - 0.85)


def test_alternating_halves_equal_the_power_iteration():
    rng = np.random.default_rng(0)
    pairs = [(int(u) + 1, int(i) + 1) for u, i in np.argwhere(rng.random((30, 50)) < 0.1)]
    model = fitted(pairs, 30, 50, tolerance=1e-9)
    history = torch.from_numpy(rng.integers(0, 51, (100, 6)))  # more than one block
    start = torch.zeros(82, 100)
    for row, items in enumerate(history):
        connected = [i for i in set(items.tolist()) - {0} if model.graph.degree()[31 + i] > 0]
        start[[31 + i for i in connected], row] = 1 / len(connected)
    full = personalised_pagerank(model.graph.matrix(), start, tolerance=1e-9)
    assert torch.allclose(model.ranks(history), full[31:].T, atol=1e-6)


def test_items_without_an_edge_are_ignored_in_the_history():
    model = fitted([(1, 1), (1, 2), (2, 2), (2, 3)], 2, 5)
    both = model.ranks(torch.tensor([[0, 1], [5, 1], [1, 1]]))
    assert torch.allclose(both[0], both[1], atol=1e-7)
    assert torch.allclose(both[0], both[2], atol=1e-7)


def test_an_empty_history_restarts_on_any_item():
    model = fitted([(1, 1), (1, 2), (2, 2), (2, 3)], 2, 5)
    ranks = model.ranks(torch.tensor([[0], [5]]))
    assert torch.allclose(ranks[0], ranks[1], atol=1e-7)
    assert ranks[0].argmax() == 2  # the most popular
    assert torch.isfinite(ranks).all()
    assert ranks[0, [0, 4, 5]].tolist() == [0, 0, 0]


def test_candidates_of_each_row():
    model = fitted([(1, 1), (1, 2), (2, 2), (2, 3)], 2, 3)
    history = torch.tensor([[1], [3]])
    shared = model.score(Batch.of(history, torch.tensor([[1, 2, 3]])))
    own = model.score(Batch.of(history, torch.tensor([[3, 2], [1, 0]])))
    assert torch.allclose(own[0], shared[0, [2, 1]], atol=1e-7)
    assert own[1].tolist() == [pytest.approx(shared[1, 0].item(), abs=1e-7), 0]


@pytest.mark.parametrize("damping", [1.0, -0.1])
def test_damping_outside_its_range_is_refused(damping):
    with pytest.raises(RecloomError, match=r"damping must be at least 0 and below 1.*found"):
        PersonalizedPageRank(catalog(1, 1), damping=damping)
    with pytest.raises(RecloomError, match="damping"):
        pagerank(Graph(*edges((0, 1)), 2), damping=damping)


def test_export_says_why_not():
    with pytest.raises(RecloomError, match=r"PersonalizedPageRank walks over a sparse graph.*recommend"):
        fitted([(1, 1)], 1, 1).export()


def test_ml_latest_small_is_ranked_in_seconds():
    root = Path(os.environ.get("RECLOOM_DATA", Path(__file__).parents[4] / "shared" / "data"))
    source = root / "ml-latest-small" / "ratings.csv"
    if not source.is_file():
        pytest.skip(f"no {source}; set RECLOOM_DATA to the folder with the raw data")
    frame = pl.read_csv(source).select(
        pl.col("userId").cast(pl.String).alias("user_id"), pl.col("movieId").cast(pl.String).alias("item_id")
    )
    known = Catalog(frame.select("item_id").unique(), frame.select("user_id").unique())
    train = Interactions.from_frame(frame, known)
    model = PersonalizedPageRank(known)
    model.fit(train)
    history, _ = train.last(torch.arange(1, 601), 50)
    begin = process_time()
    ranks = model.ranks(history)
    assert process_time() - begin < 10
    assert torch.allclose(ranks.sum(1), torch.tensor(1 / 1.85), atol=1e-2)  # items hold 1/(1 + damping)


@pytest.mark.parametrize("seed", [0, 1])
def test_forward_push_stays_below_power_iteration_by_its_bound(seed):
    sources, targets = random_edges(40, seed)
    graph = Graph(sources, targets, 40)
    restart = torch.zeros(40)
    restart[[4, 9]] = 0.5
    exact = solved(sources, targets, restart.numpy().astype(float), 0.85)
    degree = graph.matrix.crow_indices().diff().clamp(min=1).numpy()
    for epsilon in (1e-2, 1e-4, 1e-9):
        missing = exact - forward_push(graph, restart, epsilon=epsilon).numpy()
        assert missing.min() > -1e-6
        assert missing.sum() <= epsilon * degree.sum() + 1e-5
    assert forward_push(graph, restart, epsilon=1e-12).numpy() == pytest.approx(exact, abs=1e-6)


def test_forward_push_of_an_undirected_graph_is_bound_node_by_node():
    sources, targets = random_edges(40, 2)
    graph = Graph(sources, targets, 40, directed=False)
    restart = one_hot(40, 7)[:, 0]
    exact = pagerank(graph, restart, tolerance=1e-10)
    missing = exact - forward_push(graph, restart, epsilon=1e-3)
    assert (missing <= 1e-3 * graph.degree.clamp(min=1) + 1e-6).all()
    assert missing.max() > 1e-4


def test_forward_push_by_hand_touches_nothing_far_away():
    """One push from i1 with damping .5 leaves (1 - .5) on i1 and .25 waiting at u1, which epsilon .3 lets wait."""
    both = edges(*BIPARTITE, *[(b, a) for a, b in BIPARTITE])
    graph = Graph(*both, 5)
    restart = one_hot(5, 2)[:, 0]
    assert forward_push(graph, restart, 0.5, epsilon=0.3).tolist() == [0, 0, 0.5, 0, 0]
    found = forward_push(graph, restart, 0.5, epsilon=1e-9)
    assert found[[2, 0, 3, 1, 4]].numpy() == pytest.approx(list(EXPECTED.values()), abs=2e-6)


def test_forward_push_options():
    graph = Graph(*edges((0, 1)), 2)
    with pytest.raises(RecloomError, match="found damping 1"):
        forward_push(graph, torch.tensor([1.0, 0.0]), damping=1.0)
    with pytest.raises(RecloomError, match="epsilon 0"):
        forward_push(graph, torch.tensor([1.0, 0.0]), epsilon=0)


def test_a_walk_that_hardly_restarts_is_walked_to_its_end():
    ring = torch.arange(200)
    graph = Graph(ring, ring.roll(-1), 200)
    exact = torch.tensor([0.999**step for step in range(200)])
    found = pagerank(graph, one_hot(200, 0)[:, 0], damping=0.999, tolerance=1e-8)
    assert found.numpy() == pytest.approx((exact / exact.sum()).numpy(), abs=1e-5)
    with pytest.raises(RecloomError, match=r"still change after 100 steps"):
        pagerank(graph, one_hot(200, 0)[:, 0], damping=0.9999, max_steps=100)


@pytest.mark.parametrize(
    ("restart", "said"),
    [
        (torch.zeros(3), "one above 0 in every column"),
        (torch.tensor([1.0, -1.0, 1.0]), "at least 0"),
        (torch.tensor([1.0, float("nan"), 1.0]), "finite"),
        (torch.ones(4), r"must be \(3,\) or \(3, B\).*found \(4,\)"),
    ],
)
@pytest.mark.parametrize("directed", [True, False])
def test_a_restart_that_is_no_distribution_is_refused(restart, said, directed):
    with pytest.raises(RecloomError, match=said):
        pagerank(Graph(*edges((0, 1), (1, 2)), 3, directed=directed), restart)


@pytest.mark.parametrize("directed", [True, False])
def test_a_restart_counts_up_to_a_factor_in_any_precision(directed):
    graph = Graph(*edges((0, 1), (1, 2)), 3, directed=directed)
    found = pagerank(graph, torch.tensor([3e-30, 0, 1e-30], dtype=torch.float64))
    assert torch.allclose(found, pagerank(graph, torch.tensor([0.75, 0, 0.25])), atol=1e-6)
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tolerance_that_says_nothing_is_refused(tolerance):
    with pytest.raises(RecloomError, match="tolerance must be above 0 and finite"):
        pagerank(Graph(*edges((0, 1)), 2), tolerance=tolerance)
