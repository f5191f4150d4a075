import networkx as nx
import pytest
import torch
from recloom.errors import RecloomError
from recloom_graph.graphs.convert import (
    from_dgl,
    from_networkx,
    from_pyg,
    needed,
    to_dgl,
    to_networkx,
    to_pyg,
)
from recloom_graph.graphs.graph import Graph

SOURCES, TARGETS = torch.tensor([0, 0, 2, 3]), torch.tensor([1, 2, 1, 3])
WEIGHTS = torch.tensor([0.5, 2.0, 3.0, 1.0])


def graph(directed: bool, weighted: bool, names: tuple[str, ...] = ()) -> Graph:
    return Graph(SOURCES, TARGETS, 5, WEIGHTS if weighted else None, names, directed)


def same(one: Graph, other: Graph) -> bool:
    return torch.equal(one.matrix.to_dense(), other.matrix.to_dense()) and one.directed == other.directed


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_networkx_and_back(directed, weighted):
    given = graph(directed, weighted, ("a", "b", "c", "d", "e"))
    again = from_networkx(to_networkx(given))
    assert same(given, again)
    assert again.names == given.names
    assert again.weighted == weighted
    assert same(graph(directed, weighted), from_networkx(to_networkx(graph(directed, weighted))))


def test_karate_by_networkx_has_weights_that_can_be_left_out():
    karate = nx.karate_club_graph()
    assert from_networkx(karate).matrix.to_dense().sum() == 462
    plain = from_networkx(karate, weight=None)
    assert (plain.num_edges, plain.num_nodes, plain.matrix.to_dense().sum()) == (78, 34, 156)


def test_parallel_edges_are_added_up():
    several = nx.MultiDiGraph([("a", "b", {"weight": 1.0}), ("a", "b", {"weight": 2.0})])
    assert from_networkx(several).edges()[2].tolist() == [3]


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_pyg_and_back(directed, weighted):
    pytest.importorskip("torch_geometric")
    data = to_pyg(graph(directed, weighted))
    assert data.num_nodes == 5
    assert data.edge_index.shape[1] == (4 if directed else 7)
    assert same(graph(directed, weighted), from_pyg(data))


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_dgl_and_back(directed, weighted):
    pytest.importorskip("dgl")
    found = to_dgl(graph(directed, weighted))
    assert found.num_nodes() == 5
    assert same(graph(directed, weighted), from_dgl(found, directed))


def test_a_library_that_is_absent_is_named_with_its_extra():
    with pytest.raises(RecloomError, match=r"needs no_such_library.*pip install 'recloom-graph\[pyg\]'"):
        needed("no_such_library.data", "pyg")
    with pytest.raises(
        RecloomError, match=r"needs no_such_library.*has wheels up to Python 3\.1, and this is 3\.\d+"
    ):
        needed("no_such_library.data", "pyg", until=(3, 1))
