import polars as pl
import pytest
import torch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import DataError
from recloom_graph.graphs.dataset_graphs import attributes, co_occurrence, sessions

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "genres": ["Comedy|Drama", "Drama", None],
        "year": [1999, None, 1999],
        "vector": [[0.1], [0.2], [0.3]],
    }
)


def interactions(rows: list[tuple[str, str, int]]) -> Interactions:
    users = pl.DataFrame({"user_id": ["u", "v"]})
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return Interactions.from_frame(frame, Catalog(ITEMS, users))


def test_co_occurrence_counts_users_who_had_both():
    rows = [("u", "a", 1), ("u", "b", 2), ("u", "b", 3), ("v", "a", 1), ("v", "b", 2), ("v", "c", 3)]
    graph = co_occurrence(interactions(rows))
    assert [part.tolist() for part in graph.edges()] == [[1, 1, 2], [2, 3, 3], [2, 1, 1]]
    assert [part.tolist() for part in co_occurrence(interactions(rows), least=2).edges()] == [[1], [2], [2]]


def test_sessions_join_what_follows_within_the_gap():
    rows = [
        ("u", "a", 0), ("u", "b", 1800), ("u", "c", 5000), ("u", "c", 5001),
        ("v", "a", 0), ("v", "b", 10), ("v", "a", 20),
    ]  # fmt: skip
    graph = sessions(interactions(rows))
    assert [part.tolist() for part in graph.edges()] == [[1, 2], [2, 1], [2, 1]]
    assert sessions(interactions(rows), gap=9).num_edges == 0


def test_items_are_joined_to_each_of_their_attributes():
    graph = attributes(Catalog(ITEMS), ["genres", "year"])
    assert graph.names == ("", "item a", "item b", "item c", "genres: Comedy", "genres: Drama", "year: 1999")
    sources, targets, _ = graph.edges()
    assert list(zip(sources.tolist(), targets.tolist(), strict=True)) == [
        (1, 4),
        (1, 5),
        (1, 6),
        (2, 5),
        (3, 6),
    ]


def test_attributes_that_are_not_there_or_are_vectors_are_refused():
    with pytest.raises(DataError, match="no column 'brand'; they have item_id, genres"):
        attributes(Catalog(ITEMS), ["brand"])
    nested = Catalog(ITEMS.with_columns(more=pl.struct("genres")))
    with pytest.raises(DataError, match="column 'more' holds Struct"):
        attributes(nested, ["more"])


def test_nodes_of_users_and_items_stand_one_upon_the_other():
    from recloom_graph.graphs.dataset_graphs import bipartite

    graph = bipartite(interactions([("v", "c", 1)]))
    assert torch.stack(graph.edges()[:2]).tolist() == [[2], [6]]
    assert graph.num_nodes == 7
