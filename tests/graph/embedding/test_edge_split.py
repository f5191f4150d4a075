"""Edges and non-edges: every pair has a number, and what is held out is met nowhere else."""

from __future__ import annotations

from itertools import combinations

import networkx
import numpy as np
import pytest
import torch
from recloom.errors import DataError, RecloomError
from recloom_graph.embedding.edge_split import NonEdges, PairNumbers, edge_pairs, split_edges
from recloom_graph.graphs.convert import from_networkx
from recloom_graph.graphs.graph import Graph

KARATE = from_networkx(networkx.karate_club_graph(), weight=None)


def as_set(pairs: torch.Tensor) -> set[tuple[int, int]]:
    found = {(low, high) for low, high in pairs.tolist()}
    assert len(found) == len(pairs), "a pair stands there twice"
    return found


def graph(*pairs: tuple[int, int], nodes: int, directed: bool = False) -> Graph:
    ends = torch.tensor(pairs)
    return Graph(ends[:, 0], ends[:, 1], nodes, directed=directed)


@pytest.mark.parametrize("sides", [None, 3])
def test_pairs_and_their_numbers(sides):
    numbers = PairNumbers(8, sides)
    every = numbers.pair(torch.arange(numbers.total))
    expected = set(combinations(range(8), 2))
    if sides:
        expected = {(low, high) for low, high in expected if low < sides <= high}
    assert as_set(every) == expected
    assert numbers.number(every).tolist() == list(range(numbers.total))


def test_numbers_of_very_many_pairs_are_exact():
    numbers = PairNumbers(10_000_000)
    edges = torch.tensor([[0, 9_999_999], [9_999_998, 9_999_999], [0, 1], [4_999_999, 5_000_000]])
    assert torch.equal(numbers.pair(numbers.number(edges)), edges)


@pytest.mark.fact("A9.2")
def test_the_karate_club_has_483_non_edges_without_loops_or_second_directions():
    edges = edge_pairs(KARATE)
    assert len(edges) == 78
    free = NonEdges(PairNumbers(34), edges)
    assert free.free == 483
    every = free.draw(483, np.random.default_rng(0))
    assert as_set(every) == set(combinations(range(34), 2)) - as_set(edges)


def test_a_graph_with_fewer_non_edges_than_edges_is_refused():
    dense = from_networkx(networkx.complete_graph(6))
    with pytest.raises(DataError, match=r"15 edges and 0 pairs without one.*--method node2vec"):
        split_edges(dense, 0.0, 0)


@pytest.mark.fact("A9.2")
def test_non_edges_are_a_random_sample_that_covers_the_nodes():
    """The first 78 non-edges in order would touch node 0 in 17 pairs and few others: coverage tells."""
    for seed in range(5):
        drawn = split_edges(KARATE, 0.0, seed).non_edges
        assert len(drawn) == 78
        assert len(drawn.unique()) >= 30
        assert int(torch.bincount(drawn.reshape(-1)).max()) <= 14
    first = torch.tensor(sorted(set(combinations(range(34), 2)) - as_set(edge_pairs(KARATE)))[:78])
    assert int(torch.bincount(first.reshape(-1)).max()) > 14, "the bound would not notice the first 78"


def test_non_edges_are_uniform():
    path = graph((0, 1), (1, 2), (2, 3), nodes=4)  # non-edges: 02, 03, 13
    free, random = NonEdges(PairNumbers(4), edge_pairs(path)), np.random.default_rng(0)
    drawn, counts = torch.unique(free.draw(3000, random, again=True), dim=0, return_counts=True)
    assert drawn.tolist() == [[0, 2], [0, 3], [1, 3]]
    assert counts.tolist() == pytest.approx([1000] * 3, abs=110)


@pytest.mark.fact("A9.2")
def test_what_is_held_out_is_neither_trained_on_nor_drawn_as_a_negative():
    split = split_edges(KARATE, 0.25, 0)
    trained, held = as_set(split.edges), as_set(split.held_out)
    others, held_others = as_set(split.non_edges), as_set(split.held_out_non_edges)
    assert (len(trained), len(held), len(others), len(held_others)) == (58, 20, 58, 20)
    assert trained | held == as_set(edge_pairs(KARATE))
    assert not (trained | held) & (others | held_others)
    assert not others & held_others
    further = split.others.draw(20_000, np.random.default_rng(0), again=True).unique(dim=0)
    assert as_set(further) == set(combinations(range(34), 2)) - trained - held - held_others


def test_a_pair_has_no_direction_and_a_loop_is_none():
    both = graph((1, 0), (0, 1), (2, 2), (2, 1), nodes=4, directed=True)
    assert edge_pairs(both).tolist() == [[0, 1], [1, 2]]


def test_users_are_paired_with_items_alone():
    bipartite = graph((0, 3), (0, 4), (1, 5), (2, 6), nodes=9)
    split = split_edges(bipartite, 0.0, 0, sides=3)
    assert as_set(split.non_edges) <= {(user, item) for user in range(3) for item in range(3, 9)}
    with pytest.raises(DataError, match="an edge joins two nodes of one side; expected nodes below 5"):
        split_edges(bipartite, 0.0, 0, sides=5)


@pytest.mark.parametrize(
    ("share", "error", "message"),
    [
        (1.0, RecloomError, "held_out must be at least 0 and below 1; found 1.0"),
        (-0.1, RecloomError, "held_out must be at least 0"),
        (0.99, DataError, "of 4 edges a share of 0.99 is 4; expected at least one edge to train on"),
        (0.01, DataError, "of 4 edges a share of 0.01 is 0"),
    ],
)
def test_shares_that_leave_nothing(share, error, message):
    with pytest.raises(error, match=message):
        split_edges(graph((0, 1), (1, 2), (2, 3), (3, 4), nodes=9), share, 0)
