"""Graphs of training rows and of files, and whose nodes their nodes are."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from recloom.errors import DataError
from recloom.schemas import SplitSpec
from recloom_graph.embedding.sources import of_dataset, of_file, with_edges
from recloom_graph.graphs.graph import Graph

ROWS = {
    "ann": ["a", "b", "c", "x"],  # last: x is test, c is valid, a and b are training
    "bob": ["b", "d", "y", "a"],
    "cid": ["e", "d"],  # too short to hold anything out
}
TIMES = {"ann": [0, 10, 20, 30], "bob": [0, 5000, 5010, 5020], "cid": [0, 100]}


@pytest.fixture
def data(tmp_path, write_dataset):
    rows = [(u, i, t) for u, items in ROWS.items() for i, t in zip(items, TIMES[u], strict=True)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    titles = pl.DataFrame({"item_id": list("abcdexy"), "title": [f"Title {i}" for i in "ABCDEXY"]})
    return write_dataset(tmp_path / "data", frame, titles)


def edges(source) -> set[tuple[str, str]]:
    names = {nodes.first + at: name for nodes in source.nodes for at, name in enumerate(nodes.ids)}
    begins, ends, _ = source.graph.edges()
    return {(names[begin], names[end]) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)}


def test_users_and_items_of_training_rows_alone(data):
    source = of_dataset(data, "bipartite", SplitSpec())
    expected = {("ann", "a"), ("ann", "b"), ("bob", "b"), ("bob", "d"), ("cid", "e"), ("cid", "d")}
    assert edges(source) == expected
    users, items = source.nodes
    assert (users.key, list(users.ids), users.first) == ("user_id", ["ann", "bob", "cid"], 0)
    assert (items.key, sorted(items.ids), items.first) == ("item_id", ["a", "b", "d", "e"], 3)
    assert sorted(items.titles) == ["Title A", "Title B", "Title D", "Title E"]
    assert source.isolated == 3  # c, x and y
    assert not (source.graph.degree == 0).any()


def test_co_occurrence_and_sessions_of_a_dataset(data):
    assert {frozenset(pair) for pair in edges(of_dataset(data, "co-occurrence", SplitSpec()))} == {
        frozenset("ab"), frozenset("bd"), frozenset("de"),
    }  # fmt: skip
    source = of_dataset(data, "sessions", SplitSpec())
    assert edges(source) == {("a", "b"), ("e", "d")}
    assert source.graph.directed
    assert [nodes.key for nodes in source.nodes] == ["item_id"]
    assert ("b", "d") in edges(of_dataset(data, "sessions", SplitSpec(), gap=5000))


def test_first_leaves_later_training_rows_to_the_model(data):
    """Of two training rows (n + 1) // 2 = 1 may be known."""
    source = of_dataset(data, "bipartite", SplitSpec(), first=30)
    assert edges(source) == {("ann", "a"), ("bob", "b"), ("cid", "e")}
    assert source.made_of["first"] == 30


def test_what_the_graph_was_made_of_is_known_and_depends_on_the_split(data):
    one, other = (of_dataset(data, "bipartite", SplitSpec(seed=s, strategy="users")) for s in (0, 1))
    assert one.made_of["graph"] == "bipartite"
    assert one.made_of["data_hash"] == other.made_of["data_hash"]
    assert one.made_of["split_hash"] != other.made_of["split_hash"]


def test_a_file_of_edges(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("source,target,weight\nann,bob,2\nbob,cid,3\n", "utf-8")
    source = of_file(path, directed=False, weighted=True, relations=())
    (nodes,) = source.nodes
    assert (nodes.key, list(nodes.ids), nodes.first) == ("node", ["ann", "bob", "cid"], 0)
    assert source.graph.degree.tolist() == [2, 5, 3]
    assert source.made_of == {}


def test_nodes_without_edges_go_and_weights_and_directions_stay():
    graph = Graph(torch.tensor([4, 1]), torch.tensor([1, 6]), 8, torch.tensor([2.0, 3.0]))
    kept, found = with_edges(graph)
    assert kept.tolist() == [1, 4, 6]
    assert [part.tolist() for part in found.edges()] == [[0, 1], [2, 0], [3, 2]]
    assert (found.directed, found.weighted) == (True, True)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sessions", {"gap": 1.0}, r"graph of sessions of .* has no edge.*Raise --gap; found 1"),
        ("co-occurrence", {"first": 1}, "graph of co-occurrence of .* has no edge.*Take --graph bipartite"),
    ],
)
def test_graphs_without_edges_are_refused(data, kind, options, message):
    with pytest.raises(DataError, match=message):
        of_dataset(data, kind, SplitSpec(), **options)


def test_a_split_that_leaves_nothing_to_train_on_is_refused(data):
    with pytest.raises(DataError, match="leaves no training rows"):
        of_dataset(data, "bipartite", SplitSpec(min_user=99))
