import pytest
import torch
from recloom.errors import DataError, RecloomError
from recloom_graph.graph import Graph
from recloom_graph.walks import END, Walker


def graph(*pairs: tuple[int, int], nodes: int, weights=None, directed: bool = False) -> Graph:
    ends = torch.tensor(pairs)
    return Graph(ends[:, 0], ends[:, 1], nodes, weights, directed=directed)


DIAMOND = graph((0, 1), (0, 2), (1, 2), (1, 3), (3, 4), nodes=5)
"""From 0 to 1: back to 0, on to 2 (a neighbour of 0), or to 3 (two steps from 0)."""


def share(walker: Walker, walked: int = 60_000) -> torch.Tensor:
    """(5,) how often each node follows after 0, 1."""
    generator = torch.Generator().manual_seed(0)
    here, came = torch.full((walked,), 1), torch.zeros(walked, dtype=torch.long)
    found = walker._step(here, came, generator)
    return torch.bincount(found, minlength=5) / walked


@pytest.mark.parametrize(("p", "q"), [(1, 1), (4, 1), (0.25, 2), (1, 0.1), (2, 50)])
def test_a9_2_steps_of_node2vec_have_the_weights_of_the_paper(p, q):
    expected = torch.tensor([1 / p, 0, 1, 1 / q, 0])
    assert share(Walker(DIAMOND, p, q)).numpy() == pytest.approx(
        (expected / expected.sum()).numpy(), abs=0.01
    )


def test_a9_2_p_and_q_of_1_are_deepwalk_draw_for_draw():
    starts = torch.arange(5).repeat(20)
    one = Walker(DIAMOND).walks(starts, 8, torch.Generator().manual_seed(3))
    again = Walker(DIAMOND, 1, 1).walks(starts, 8, torch.Generator().manual_seed(3))
    assert torch.equal(one, again)
    steps = torch.bincount(Walker(DIAMOND)._proposed(torch.full((30_000,), 1), None), minlength=5) / 30_000
    assert steps.numpy() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3, 0], abs=0.015)


def test_a9_2_a_large_q_stays_near_its_start():
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
