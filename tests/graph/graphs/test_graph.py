import pytest
import torch
from recloom.errors import DataError
from recloom_graph.graphs.graph import Graph


def ends(*pairs: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T)


def test_an_undirected_edge_leads_both_ways_and_counts_once():
    graph = Graph(*ends((0, 1), (2, 1), (2, 2)), 4, directed=False)
    assert graph.matrix.to_dense().tolist() == [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert graph.num_edges == 3
    assert [part.tolist() for part in graph.edges()] == [[0, 1, 2], [1, 2, 2], [1, 1, 1]]
    assert repr(graph) == "Graph(4 nodes, 3 undirected edges)"


def test_an_edge_given_in_both_directions_is_one_undirected_edge_and_two_directed_ones():
    pairs = ends((0, 1), (1, 0))
    assert Graph(*pairs, 2, directed=False).num_edges == 1
    assert Graph(*pairs, 2).num_edges == 2


def test_weights_of_an_edge_named_twice_are_added_up():
    graph = Graph(*ends((0, 1), (0, 1), (1, 2)), 3, torch.tensor([0.5, 1.5, 3.0]))
    assert graph.edges()[2].tolist() == [2, 3]
    assert graph.degree.tolist() == [2, 3, 0]


def test_the_transition_follows_the_weights():
    graph = Graph(*ends((0, 1), (0, 2), (2, 0)), 3, torch.tensor([1.0, 3.0, 5.0]))
    assert graph.transition.to_dense().tolist() == [[0, 0, 1], [0.25, 0, 0], [0.75, 0, 0]]


def test_the_symmetric_normalisation_of_weights_by_hand():
    """Degrees 2, 8 and 6; the entry of the edge 0-1 is 2 / sqrt(2 * 8)."""
    graph = Graph(*ends((0, 1), (1, 2)), 3, torch.tensor([2.0, 6.0]), directed=False)
    dense = graph.symmetric.to_dense()
    assert dense[0, 1] == dense[1, 0] == pytest.approx(0.5)
    assert dense[1, 2] == pytest.approx(6 / (8 * 6) ** 0.5)


def test_normalisations_are_computed_once():
    graph = Graph(*ends((0, 1)), 2, directed=False)
    assert graph.symmetric is graph.symmetric
    assert graph.transition is graph.transition


def test_a_directed_graph_has_no_symmetric_normalisation():
    with pytest.raises(DataError, match=r"needs an undirected graph.*directed=False"):
        _ = Graph(*ends((0, 1)), 2).symmetric


def test_names():
    graph = Graph(*ends((0, 1)), 2, names=["唐僧", "孙悟空"])
    assert graph.index("孙悟空") == 1
    assert graph.name(0) == "唐僧"
    assert Graph(*ends((0, 1)), 2).index("1") == 1
    with pytest.raises(DataError, match=r"no node 'Harry'.*begin with '唐僧', '孙悟空'"):
        graph.index("Harry")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*ends((0, 2)), 2), "names node 2; expected 0 to 1"),
        ((*ends((-1, 1)), 2), "names node -1"),
        ((torch.tensor([0, 1]), torch.tensor([1]), 2), "one source and one target"),
        ((*ends((0, 1)), 2, torch.tensor([0.0])), "finite and above 0"),
        ((*ends((0, 1)), 2, torch.tensor([float("nan")])), "finite and above 0"),
        ((*ends((0, 1)), 2, torch.tensor([1.0, 2.0])), "one for each edge"),
        ((*ends((0, 1)), 2, None, ["a"]), "2 nodes and 1 names"),
        ((*ends((0, 1)), 2, None, ["a", "a"]), "two nodes are named 'a'"),
    ],
)
def test_what_is_no_graph_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        Graph(*arguments)


def test_a_graph_without_edges():
    graph = Graph(*ends(), 3, directed=False)
    assert graph.num_edges == 0
    assert graph.symmetric.to_dense().sum() == 0
    assert graph.transition.to_dense().sum() == 0


@pytest.mark.parametrize("weights", [[3e38, 3e38], [1e-44, 1.0], [1e29, 1e31]])
def test_weights_that_float32_cannot_add_up_are_refused(weights):
    with pytest.raises(DataError, match=r"between 1e-30 and 1e\+30, added up; found .* by the same number"):
        Graph(torch.tensor([0, 0]), torch.tensor([1, 2]), 3, torch.tensor(weights, dtype=torch.float64))
