"""Files in the layout of the Open Graph Benchmark, made here."""

import gzip
import io
import sys
import zipfile

import pytest
import torch
from recloom.data.prepare import public_datasets as download
from recloom.errors import DataError, RecloomError
from recloom_graph.property import ogb
from recloom_graph.property.data_modules import GraphData, NodeData
from recloom_graph.property.ogb import read_graphs, read_nodes, set_folder, set_metadata

GRAPHS = {
    "raw/edge": "0,1\n1,2\n0,1\n1,0\n", "raw/num-node-list": "3\n2\n1\n", "raw/num-edge-list": "2\n2\n0\n",
    "raw/node-feat": "5,0\n0,1\n2,1\n0,0\n1,1\n3,0\n", "raw/graph-label": "1,\n0,1\n,0\n",
    "split/scaffold/train": "0\n", "split/scaffold/valid": "2\n", "split/scaffold/test": "1\n",
}  # fmt: skip
NODES = {
    "raw/edge": "0,1\n2,1\n1,2\n3,0\n", "raw/num-node-list": "4\n", "raw/num-edge-list": "4\n",
    "raw/node-feat": "0.5,1\n-1,0\n2,2\n0,0.25\n", "raw/node-label": "0\n2\n1\n2\n",
    "split/time/train": "3\n0\n", "split/time/valid": "1\n", "split/time/test": "2\n",
}  # fmt: skip
MASTER = (
    ",ogbn-tiny,ogbn-kinds,ogbn-packed,ogbn-many,ogbn-real\ntask type,multiclass classification,multiclass "
    "classification,multiclass classification,binary classification,regression\ndownload_name,tiny,kinds,packed,,\n"
    "url,http://example.org/tiny.zip,,,,\nis hetero,False,True,False,False,False\n"
    "binary,False,False,True,False,False\nnum tasks,1,1,1,112,1\n"
)


def write(folder, tables):
    for name, text in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))
    return folder


def test_graphs_are_read_with_missing_labels_and_categories(tmp_path):
    found = read_graphs(write(tmp_path, GRAPHS))
    assert found.features.dtype == torch.int64
    assert found.categories == [6, 2]
    assert found.nodes.tolist() == [3, 2, 1]
    assert sorted(map(tuple, found.edges.T.tolist())) == [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)]
    assert found.labels.nan_to_num(-1).tolist() == [[1, -1], [0, 1], [-1, 0]]
    assert (found.split, found.parts["test"].tolist()) == ("scaffold", [1])


def test_a_batch_is_its_graphs_side_by_side(tmp_path):
    found = read_graphs(write(tmp_path, GRAPHS))[torch.tensor([1, 2, 0])]
    assert found.features.tolist() == [[0, 0], [1, 1], [3, 0], [5, 0], [0, 1], [2, 1]]
    assert sorted(map(tuple, found.edges.T.tolist())) == [(0, 1), (1, 0), (3, 4), (4, 3), (4, 5), (5, 4)]
    assert found.graph.tolist() == [0, 0, 1, 2, 2, 2]


def test_real_features_and_none_at_all(tmp_path):
    write(tmp_path, GRAPHS | {"raw/node-feat": "0.5\n1\n2\n3\n4\n5\n"})
    assert read_graphs(tmp_path).features[:, 0].tolist() == [0.5, 1, 2, 3, 4, 5]
    (tmp_path / "raw" / "node-feat.csv.gz").unlink()
    assert read_graphs(tmp_path).features.tolist() == [[0]] * 6


def test_nodes_are_read_and_their_directed_edges_symmetrised(tmp_path):
    found = read_nodes(write(tmp_path, NODES))
    assert sorted(map(tuple, found.edges.T.tolist())) == [(0, 1), (0, 3), (1, 0), (1, 2), (2, 1), (3, 0)]
    assert found.features.tolist() == [[0.5, 1], [-1, 0], [2, 2], [0, 0.25]]
    assert (found.labels.tolist(), found.num_classes) == ([0, 2, 1, 2], 3)
    assert found.parts["train"].tolist() == [3, 0]


def test_the_data_modules_find_a_set_by_its_name_or_its_folder(tmp_path):
    write(tmp_path / "ogbn_tiny", NODES)
    by_name, by_folder = NodeData(str(tmp_path), "ogbn-tiny"), NodeData(str(tmp_path / "ogbn_tiny"))
    assert by_name.protocol() | {"data": "ogbn_tiny"} == by_folder.protocol()
    assert by_name.protocol()["split"] == "time"
    write(tmp_path / "graphs", GRAPHS)
    assert GraphData(str(tmp_path / "graphs")).protocol()["train_graphs"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raw/num-edge-list": "2\n1\n0\n"}, "lists 3 edges in 3 graphs; edge.csv.gz holds 4"),
        ({"raw/num-node-list": "3\n2\n"}, "lists 5 nodes; expected 6, the lines of .* Fetch both again"),
        ({"raw/num-node-list": "3\n3\n"}, "in 3 graphs; edge.csv.gz holds 4, num-node-list.csv.gz 2 graphs"),
        ({"raw/edge": "0,1\n1,2\n0,1\n1,2\n"}, "an edge leads from one graph to another"),
        ({"raw/edge": "0,1\n1,2\n0,1\n1,3\n"}, "names node 6; expected 0 to 5"),
        (
            {"raw/edge": "source,target\n0,1\n"},
            "holds values of type String; expected numbers without a header",
        ),
        ({"raw/graph-label": "1\n0\n"}, "3 graphs of 6 nodes do not fit 2 labels"),
        (
            {"raw/node-feat": "-1\n0\n0\n0\n0\n0\n"},
            r"node-feat\.csv\.gz, line 1, column 1: found -1; expected",
        ),
        ({"raw/node-feat": "0\n0\n0\n0\n0\n1048576\n"}, "line 6, column 1: found 1048576; expected a whole"),
        ({"raw/node-feat": "0\n1\n\n0\n0\n0\n"}, "line 3, column 1: found no number; expected a whole"),
        ({"raw/node-feat": "0.5\n1\n\n0\n0\n0\n"}, "line 3, column 1: found no number; expected a finite"),
        ({"raw/node-feat": "0.5\n1\n1e39\n0\n0\n0\n"}, "line 3, column 1: found inf; expected a finite"),
        ({"raw/edge": "0\n1\n2\n3\n"}, r"edge\.csv\.gz has 1 columns; expected 2\. Fetch"),
        ({"raw/edge": "0,1,1\n1,2,1\n0,1,1\n1,0,1\n"}, r"edge\.csv\.gz has 3 columns; expected 2"),
        ({"raw/edge": "0,1\n0.5,1.9\n0,1\n1,0\n"}, r"edge\.csv\.gz, line 2, column 1: found 0\.5; expected"),
        ({"raw/num-node-list": "3\n1000000000000\n1\n"}, "line 2, column 1: found 1000000000000; expected"),
        ({"raw/num-node-list": "3\n2\n99999999999999999999\n"}, r"line 3, column 1: found 1e\+20; expected"),
        (
            {"raw/num-node-list": "3\n-3\n1\n"},
            r"line 2, column 1: found -3; expected a whole .*Mend that line",
        ),
        (
            {"raw/num-node-list": "3\n2000000000\n1\n"},
            "lists 2,000,000,004 nodes; expected 6, the lines of node",
        ),
        (
            {"raw/num-edge-list": "-1\n3\n2\n"},
            r"num-edge-list\.csv\.gz, line 1, column 1: found -1; expected",
        ),
        (
            {"raw/graph-label": "0.7\n0\n1.2\n"},
            r"line 1, column 1: found 0\.7; expected a whole number from 0 to 2",
        ),
        ({"raw/graph-label": "0\n1\n1000000000000\n"}, "line 3, .* expected a whole number from 0 to 2"),
        ({"split/scaffold/train": "1.5\n"}, r"train\.csv\.gz, line 1, column 1: found 1\.5; expected"),
        ({"split/scaffold/test": "0\n"}, "a graph is in two parts"),
        ({"split/scaffold/test": "9\n"}, "the split names graph 9; expected 0 to 2"),
        ({"split/other/test": "1\n"}, "holds other, scaffold; expected one folder"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_graphs(write(tmp_path, GRAPHS | change))


def test_more_nodes_than_can_be_held_are_refused_without_a_file_of_features(tmp_path):
    write(tmp_path, GRAPHS | {"raw/num-node-list": "3\n2000000000\n1\n"})
    (tmp_path / "raw" / "node-feat.csv.gz").unlink()
    with pytest.raises(
        DataError, match=r"lists 2,000,000,004 nodes, and there is no node-feat.* 268,435,456\. Mend"
    ):
        read_graphs(tmp_path)


def test_graphs_need_no_edge(tmp_path):
    found = read_graphs(write(tmp_path, GRAPHS | {"raw/edge": "", "raw/num-edge-list": "0\n0\n0\n"}))
    assert found.edges.shape == (2, 0)
    assert found[torch.tensor([2, 0])].features.tolist() == [[3, 0], [5, 0], [0, 1], [2, 1]]


def test_a_task_without_any_label_is_kept(tmp_path):
    found = read_graphs(write(tmp_path, GRAPHS | {"raw/graph-label": "1,\n0,\n1,\n"}))
    assert found.labels.nan_to_num(-1).tolist() == [[1, -1], [0, -1], [1, -1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"raw/node-label": "0\n0.7\n1.2\n1\n"},
            r"node-label\.csv\.gz, line 2, column 1: found 0\.7; expected",
        ),
        ({"raw/node-label": "0\n1\n1\n1000000000000\n"}, "line 4, .* expected a whole number from 0 to 3"),
        (
            {"raw/num-node-list": "1000000000\n"},
            r"1 graphs of 1,000,000,000 nodes; expected one, .* has 4, .*again",
        ),
        ({"raw/num-node-list": "2\n2\n"}, "lists 2 graphs of 4 nodes; expected one"),
        ({"raw/node-label": "0\n1\n1\n"}, r"node-label\.csv\.gz, which has 3"),
        ({"raw/node-feat": "0.5,1\n-1,0\n2,\n0,0.25\n"}, "line 3, column 2: found no number"),
    ],
)
def test_nodes_that_do_not_fit_are_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_nodes(write(tmp_path, NODES | change))


def test_a_missing_or_damaged_file_is_named(tmp_path):
    write(tmp_path, GRAPHS)
    (tmp_path / "raw" / "graph-label.csv.gz").write_bytes(b"\x1f\x8bno table")
    with pytest.raises(DataError, match=r"graph-label\.csv\.gz cannot be read as a compressed table"):
        read_graphs(tmp_path)
    (tmp_path / "raw" / "graph-label.csv.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"graph-label\.csv\.gz is an empty file; .* Fetch it again"):
        read_graphs(tmp_path)
    (tmp_path / "raw" / "graph-label.csv.gz").unlink()
    with pytest.raises(DataError, match=r"there is no file .*graph-label\.csv\.gz"):
        read_graphs(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"raw/node-label": "0,1\n1,1\n0,0\n1,0\n"}, "has 2 columns; expected one class"), ({}, None)],
)
def test_nodes_of_several_tasks_are_refused(tmp_path, change, message):
    write(tmp_path, NODES | change)
    if message is None:
        (tmp_path / "raw" / "node-feat.csv.gz").unlink()
        message = "nodes without features are not read"
    with pytest.raises(DataError, match=message):
        read_nodes(tmp_path)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `ogb` that must be read and not imported."""
    place = tmp_path / "site" / "ogb"
    (place / "nodeproppred").mkdir(parents=True)
    (place / "__init__.py").write_text("raise RuntimeError('imported')")
    (place / "nodeproppred" / "master.csv").write_text(MASTER)
    monkeypatch.syspath_prepend(str(place.parent))
    monkeypatch.delitem(sys.modules, "ogb", raising=False)
    return place


def test_a_known_name_is_fetched_and_read(tmp_path, package, monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in NODES.items():
            archive.writestr(f"tiny/{name}.csv.gz", gzip.compress(text.encode()))
    asked = []
    monkeypatch.setattr(download, "_open", lambda url: asked.append(url) or io.BytesIO(packed.getvalue()))
    found = set_folder(tmp_path / "ogb", "ogbn-tiny", "nodeproppred")
    assert (asked, found) == (["http://example.org/tiny.zip"], tmp_path / "ogb" / "ogbn_tiny")
    assert sorted(path.name for path in found.iterdir()) == ["raw", "split"]
    assert read_nodes(found).num_classes == 3
    assert set_folder(tmp_path / "ogb", "ogbn-tiny", "nodeproppred") == found
    assert len(asked) == 1


def test_without_network_it_says_what_to_put_where(tmp_path, package, monkeypatch):
    def absent(request, timeout):
        raise OSError("no route")

    monkeypatch.setattr(download, "urlopen", absent)
    expected = (
        r"ogbn-tiny is not in .*ogb and cannot be fetched\..*cannot be reached \(no route\).*By hand: unpack "
        r"http://example\.org/tiny\.zip so that .*ogb/ogbn_tiny/raw/edge\.csv\.gz exists"
    )
    with pytest.raises(DataError, match=expected):
        NodeData(str(tmp_path / "ogb"), "ogbn-tiny").setup()
    assert not (tmp_path / "ogb" / "ogbn_tiny").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ogbn-none",
            "no nodeproppred set 'ogbn-none'; it has ogbn-tiny, ogbn-kinds, ogbn-packed, ogbn-many",
        ),
        ("ogbn-kinds", "ogbn-kinds cannot be learnt here: it has several kinds of nodes"),
        ("ogbn-packed", "it has files of another format"),
        ("ogbn-many", "it has several tasks for a node"),
        ("ogbn-real", "it has regression. Read are binary classification and multiclass"),
    ],
)
def test_sets_that_cannot_be_learnt_are_refused_before_anything_is_fetched(package, name, message):
    with pytest.raises(RecloomError, match=message):
        set_metadata(name, "nodeproppred")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ogb.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecloomError, match=r"pip install 'recloom-graph\[ogb\]'"):
        set_folder(tmp_path, "ogbg-molhiv", "graphproppred")
    with pytest.raises(DataError, match=r"no set in OGB's layout.*such as ogbg-molhiv"):
        GraphData(str(tmp_path)).setup()
