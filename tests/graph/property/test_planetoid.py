import numpy as np
import pytest
import torch
from recloom.errors import DataError
from recloom_graph.property.labelled_graphs import NodeGraph, symmetrised
from recloom_graph.property.planetoid import read_planetoid

from .planetoid_files import array, csr, number, whole, write

FEATURES = np.array([[2, 0], [0, 1], [1, 1], [0, 0], [1, 3], [4, 0], [0, 5]], np.float32)
CLASSES = np.array([0, 1, 0, 1, 0, 0, 1])
EDGES = {0: [1, 2], 1: [0], 2: [0, 2], 3: [], 4: [6], 5: [], 6: [4, 4]}


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "raw", "tiny", FEATURES, CLASSES, EDGES, train=2, test=[6, 4])


def test_rows_stand_where_the_index_says(folder):
    graph = read_planetoid(folder, "tiny")
    rows = FEATURES[[0, 1, 2, 3, 4, 6]]
    assert torch.allclose(
        graph.features[[0, 1, 2, 3, 4, 6]], torch.tensor(rows / np.maximum(rows.sum(1, keepdims=True), 1e-9))
    )
    assert graph.labels[[0, 1, 2, 3, 4, 6]].tolist() == CLASSES[[0, 1, 2, 3, 4, 6]].tolist()
    assert {name: rows.tolist() for name, rows in graph.parts.items()} == {
        "train": [0, 1], "valid": [2, 3], "test": [4, 6],
    }  # fmt: skip
    assert graph.num_classes == 2


def test_a_test_node_that_the_index_leaves_out_is_isolated_and_in_no_part(folder):
    graph = read_planetoid(folder, "tiny")
    assert graph.features[5].tolist() == [0, 0]
    assert graph.labels[5] == -1
    assert not (graph.edges == 5).any()


def test_edges_stand_in_both_directions_once_and_without_loops(folder):
    edges = read_planetoid(folder, "tiny").edges
    assert sorted(map(tuple, edges.T.tolist())) == [(0, 1), (0, 2), (1, 0), (2, 0), (4, 6), (6, 4)]


@pytest.mark.fact("A9.3")
def test_the_count_of_symmetrised_edges():
    directed = torch.tensor([[0, 1, 2, 2, 3], [1, 0, 0, 0, 3]])  # 0-1 both ways, 2-0 twice, a loop
    assert sorted(map(tuple, symmetrised(directed, 4).T.tolist())) == [(0, 1), (0, 2), (1, 0), (2, 0), (3, 3)]
    drawn = torch.randint(0, 40, (2, 300), generator=torch.Generator().manual_seed(0))
    pairs = {frozenset(pair) for pair in drawn.T.tolist()}
    loops = sum(len(pair) == 1 for pair in pairs)
    found = symmetrised(drawn, 40)
    assert found.shape[1] == 2 * (len(pairs) - loops) + loops
    assert torch.equal(found.unique(dim=1), found.flip(0).unique(dim=1))


def test_files_that_do_not_fit_each_other_are_reported(folder):
    (folder / "ind.tiny.ally").write_bytes(whole(array(np.eye(2, dtype=np.int32))))
    with pytest.raises(DataError, match=r"do not fit each other.*'ally': 2"):
        read_planetoid(folder, "tiny")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4\n4\n", "different node numbers from 0 on, one a line; found 2 of them. Fetch"),
        ("4\n-1\n", "different node numbers from 0 on"),
        ("a\n", "no node numbers"),
        ("6\n99999999999999\n", "most of the nodes 6 to 99999999999999, .*; found 2 of them. Fetch"),
        ("9" * 30, "no node numbers"),
    ],
)
def test_an_index_must_name_different_nodes(folder, text, message):
    (folder / "ind.tiny.test.index").write_text(text)
    with pytest.raises(DataError, match=message):
        read_planetoid(folder, "tiny")


def test_a_missing_file_is_named(folder):
    (folder / "ind.tiny.graph").unlink()
    with pytest.raises(DataError, match=r"there is no file .*ind\.tiny\.graph"):
        read_planetoid(folder, "tiny")


@pytest.mark.parametrize(
    ("name", "nodes", "words", "edges", "classes", "isolated"),
    [("cora", 2708, 1433, 10556, 7, 0), ("citeseer", 3327, 3703, 9104, 6, 15)],
)
def test_the_published_counts(real_data, name, nodes, words, edges, classes, isolated):
    graph = read_planetoid(real_data / "planetoid", name)
    assert (*graph.features.shape, graph.edges.shape[1], graph.num_classes) == (nodes, words, edges, classes)
    assert {part: len(rows) for part, rows in graph.parts.items()} == {
        "train": 20 * classes, "valid": 500, "test": 1000,
    }  # fmt: skip
    assert torch.bincount(graph.labels[graph.parts["train"]]).tolist() == [20] * classes
    assert int((graph.labels < 0).sum()) == isolated
    sums = graph.features.sum(1)
    assert torch.allclose(sums[sums > 0], torch.ones(()), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.zeros(2, dtype=torch.long)}, "one label for each of 3 nodes, found 2"),
        ({"edges": torch.tensor([[0], [7]])}, "names node 7; expected 0 to 2"),
        ({"parts": {"train": torch.tensor([3])}}, "train part names node 3"),
        ({"parts": {"train": torch.tensor([2])}}, "holds a node without label"),
        ({"parts": {"train": torch.tensor([0]), "test": torch.tensor([0])}}, "two parts of the split"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {
        "features": torch.ones(3, 1), "edges": torch.tensor([[0], [1]]), "labels": torch.tensor([0, 0, -1]),
        "parts": {"train": torch.tensor([0])}, "num_classes": 1, "split": "test",
    }  # fmt: skip
    assert NodeGraph(**given).digest() == NodeGraph(**given).digest()
    with pytest.raises(DataError, match=message):
        NodeGraph(**given | change)


@pytest.mark.parametrize(
    ("part", "body", "message"),
    [
        ("y", array(np.eye(5, dtype=np.int32)), r"5 of y, 2 test nodes. Fetch all"),
        ("tx", csr(np.eye(2, 3, dtype=np.float32)), r"in tx as in allx, .* found 3 and 2"),
        ("ty", array(np.eye(2, 3, dtype=np.int32)), r"in ty as in ally; .* \(3,\) and \(2,\)"),
        ("ty", array(np.ones(2, np.int32)), r"in ty as in ally; .* \(\) and \(2,\)"),
    ],
)
def test_rows_and_columns_that_do_not_fit_are_reported(folder, part, body, message):
    (folder / f"ind.tiny.{part}").write_bytes(whole(body))
    with pytest.raises(DataError, match=message):
        read_planetoid(folder, "tiny")


def test_more_features_than_can_be_held_are_refused(folder):
    for part in ("allx", "tx"):
        path = folder / f"ind.tiny.{part}"
        rows = {"allx": 4, "tx": 2}[part]
        path.write_bytes(
            path.read_bytes().replace(number(rows) + number(2), number(rows) + number(2**31 - 1))
        )
    with pytest.raises(DataError, match=r"allx: 2,147,483,647 features of 7 nodes are too many to be held"):
        read_planetoid(folder, "tiny")


def test_features_that_are_no_numbers_are_refused(folder):
    features = FEATURES[:4].copy()
    features[2, 1] = np.nan
    (folder / "ind.tiny.allx").write_bytes(whole(csr(features)))
    with pytest.raises(DataError, match=r"node 2 has a feature that is not finite; .*Mend its features"):
        read_planetoid(folder, "tiny")
