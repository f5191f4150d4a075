import pytest
import torch
from recloom.errors import DataError, RecloomError
from recloom_graph.embedding.walks import END, Walker
from recloom_graph.graphs.graph import Graph


def graph(*pairs: tuple[int, int], nodes: int, weights=None, directed: bool = False) -> Graph:
    ends = torch.tensor(pairs)
    return Graph(ends[:, 0], ends[:, 1], nodes, weights, directed=directed)


DIAMOND = graph((0, 1), (0, 2), (1, 2), (1, 3), (3, 4), nodes=5)
"""From 0 to 1: back to 0, on to 2 (a neighbour of 0), or to 3 (two steps from 0)."""


def share(walker: Walker, walked: int = 200_000) -> torch.Tensor:
    """(5,) how often each node follows after 0, 1."""
    walks = walker.walks(torch.zeros(walked, dtype=torch.long), 3, torch.Generator().manual_seed(0))
    found = walks[walks[:, 1] == 1, 2]
    return torch.bincount(found, minlength=5) / len(found)


P_AND_Q = [(1, 1), (4, 1), (0.25, 2), (0.25, 1), (1, 0.1), (2, 50), (0.1, 0.5)]


@pytest.mark.parametrize(("p", "q"), P_AND_Q)
@pytest.mark.fact("A9.2")
def test_steps_of_node2vec_have_the_weights_of_the_paper(p, q, monkeypatch):
    expected = torch.tensor([1 / p, 0, 1, 1 / q, 0])
    wanted = (expected / expected.sum()).numpy()
    assert share(Walker(DIAMOND, p, q)).numpy() == pytest.approx(wanted, abs=0.01)
    monkeypatch.setattr(
        "recloom_graph.embedding.walks.BITMAP", 0
    )  # as in a graph that is too large for a bit for each pair
    assert share(Walker(DIAMOND, p, q)).numpy() == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(("p", "q"), P_AND_Q)
@pytest.mark.fact("A9.2")
def test_weights_of_edges_multiply_those_of_the_paper(p, q):
    weights = torch.tensor([2.0, 0.5, 1.0, 3.0, 1.0])  # of 1 to 0, 2 and 3: 2, 1, 3
    weighted = graph((0, 1), (0, 2), (1, 2), (1, 3), (3, 4), nodes=5, weights=weights)
    expected = torch.tensor([2 / p, 0, 1, 3 / q, 0])
    assert share(Walker(weighted, p, q)).numpy() == pytest.approx(
        (expected / expected.sum()).numpy(), abs=0.01
    )


@pytest.mark.fact("A9.2")
def test_a_directed_walk_goes_back_only_where_an_edge_does():
    one_way = graph((0, 1), (1, 2), (1, 3), (0, 2), nodes=4, directed=True)
    walks = Walker(one_way, 0.1, 4).walks(
        torch.zeros(40_000, dtype=torch.long), 3, torch.Generator().manual_seed(0)
    )
    third = torch.bincount(walks[walks[:, 1] == 1, 2], minlength=4).float()
    assert (third / third.sum()).tolist() == pytest.approx([0, 0, 0.8, 0.2], abs=0.015)


def test_long_walks_repeat_the_law_of_their_first_steps():
    """What follows 0, 1 far from the start, where walks have drawn unlike numbers of proposals."""
    walks = Walker(DIAMOND, 0.25, 2).walks(torch.arange(5).repeat(2000), 40, torch.Generator().manual_seed(1))
    came, here, then = walks[:, 20:-2].flatten(), walks[:, 21:-1].flatten(), walks[:, 22:].flatten()
    found = torch.bincount(then[(came == 0) & (here == 1)], minlength=5).float()
    assert found.sum() > 10_000
    assert (found / found.sum()).tolist() == pytest.approx([4 / 5.5, 0, 1 / 5.5, 0.5 / 5.5, 0], abs=0.01)


@pytest.mark.fact("A9.2")
def test_p_and_q_of_1_are_deepwalk_draw_for_draw():
    starts = torch.arange(5).repeat(20)
    one = Walker(DIAMOND).walks(starts, 8, torch.Generator().manual_seed(3))
    again = Walker(DIAMOND, 1, 1).walks(starts, 8, torch.Generator().manual_seed(3))
    assert torch.equal(one, again)
    walks = Walker(DIAMOND).walks(torch.ones(30_000, dtype=torch.long), 2, torch.Generator().manual_seed(0))
    steps = torch.bincount(walks[:, 1], minlength=5) / 30_000
    assert steps.numpy() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3, 0], abs=0.015)


@pytest.mark.fact("A9.2")
def test_walks_with_a_large_q_stay_near_their_start():
    path = graph(*[(n, n + 1) for n in range(200)], nodes=201)
    starts = torch.full((200,), 100)

    def distance(q: float) -> float:
        walks = Walker(path, 1, q).walks(starts, 40, torch.Generator().manual_seed(0))
        return (walks - 100).abs().float().mean().item()

    assert distance(100) < 1.5 < 4 < distance(0.01)


def test_every_step_is_an_edge_and_weights_are_its_chances():
    weighted = graph((0, 1), (0, 2), nodes=3, weights=torch.tensor([3.0, 1.0]))
    walks = Walker(weighted).walks(torch.zeros(40_000, dtype=torch.long), 3, torch.Generator().manual_seed(0))
    assert (walks[:, 1] == 1).float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert (walks[:, 2] == 0).all()


def test_walks_end_where_no_edge_leaves():
    chain = graph((0, 1), (1, 2), nodes=4, directed=True)
    walks = Walker(chain, 0.5, 2).walks(torch.arange(4), 4)
    assert walks.tolist() == [[0, 1, 2, END], [1, 2, END, END], [2, END, END, END], [3, END, END, END]]


def test_the_same_seed_gives_the_same_walks():
    walks = [
        Walker(DIAMOND, 2, 0.5).walks(torch.arange(5), 20, torch.Generator().manual_seed(7)) for _ in range(2)
    ]
    assert torch.equal(*walks)


def test_options_out_of_range():
    with pytest.raises(RecloomError, match="q must be above 0"):
        Walker(DIAMOND, 1, 0)
    with pytest.raises(RecloomError, match="1 node at least"):
        Walker(DIAMOND).walks(torch.arange(2), 0)
    with pytest.raises(DataError, match="nodes 0 to 4"):
        Walker(DIAMOND).walks(torch.tensor([5]), 2)


def test_light_edges_far_from_heavy_ones_are_walked_by_their_weights():
    ends = torch.tensor([[0, 1], [0, 2], [3, 4]])
    graph = Graph(
        ends[:, 0], ends[:, 1], 5, torch.tensor([1e-20, 3e-20, 1e20], dtype=torch.float64), directed=False
    )
    walks = Walker(graph).walks(torch.zeros(20_000, dtype=torch.long), 2, torch.Generator().manual_seed(0))
    assert (walks[:, 1] == 2).float().mean().item() == pytest.approx(0.75, abs=0.01)


def test_a_walk_turns_at_once_where_only_the_way_back_is_open():
    pair = Graph(torch.tensor([0]), torch.tensor([1]), 2, directed=False)
    walks = Walker(pair, p=1e9).walks(torch.tensor([0, 1]), 5)
    assert walks.tolist() == [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]
