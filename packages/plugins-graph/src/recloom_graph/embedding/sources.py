"""Graphs for `recloom graph embed`: of the training rows of a dataset, or of a file of edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from recloom.data import Catalog, Interactions, knowledge_prefix, parts_of, read_unchanged, split_digest
from recloom.errors import DataError
from recloom.schemas import SplitSpec
from torch import Tensor

from ..graphs.dataset_graphs import bipartite, co_occurrence, sessions
from ..graphs.edge_files import read_graph
from ..graphs.graph import Graph
from .command import Kind

GAP = 1800.0


@dataclass(frozen=True)
class Nodes:
    """Consecutive nodes of one kind, with their ids and titles.

    Attributes:
        key: the column of their ids: `item_id`, `user_id` or `node`.
        ids: one of each node.
        titles: for display.
        first: the node of the first of them.
    """

    key: str
    ids: Sequence[str]
    titles: Sequence[str]
    first: int


@dataclass(frozen=True)
class Source:
    """A graph, and the users, items or names that its nodes stand for.

    Attributes:
        graph: every node of it has an edge.
        nodes: of each kind; the last kind is what is shown.
        isolated: number of users and items that were left out for lack of an edge.
        made_of: identity of the data, for the file of vectors.
    """

    graph: Graph
    nodes: tuple[Nodes, ...]
    isolated: int = 0
    made_of: dict[str, Any] = field(default_factory=dict)


def of_file(path: Path, directed: bool, weighted: bool, relations: tuple[str, ...]) -> Source:
    """The graph of a file, as `read_graph` reads it."""
    graph = read_graph(path, directed, weighted, relations)
    return Source(graph, (Nodes("node", graph.names, graph.names, 0),))


def of_dataset(
    folder: Path,
    kind: Kind,
    split: SplitSpec,
    split_path: Path | None = None,
    gap: float = GAP,
    first: int | None = None,
) -> Source:
    """The graph of the training rows of a prepared dataset; users and items without any are left out.

    Args:
        gap: seconds between two items of a session.
        first: only the first min((n + 1) // 2, first) training rows of a user count, which `--data.known_first`
            keeps from what a click model learns from.
    """
    card, catalog = read_unchanged(folder), Catalog.load(folder)
    _, part = parts_of(folder, card, split, split_path)
    rows = Interactions.load(folder, catalog).select(
        torch.from_numpy(part.eq_missing("train").to_numpy().copy())
    )
    if not len(rows):
        raise DataError(
            f"the split leaves no training rows of {folder}. Lower min_user, min_item, valid or test."
        )
    if first is not None:
        rows = _beginnings(rows, first)
    graph = _graph(rows, kind, gap)
    if not graph.num_edges:
        raise DataError(
            f"the graph of {kind} of {folder} has no edge: no two training rows of a user belong together. "
            + (f"Raise --gap; found {gap:g}." if kind == "sessions" else "Take --graph bipartite.")
        )
    made_of = {"graph": kind, "data_hash": card.data_hash(), "split_hash": split_digest(part), "first": first}
    kept, graph = with_edges(graph)
    users = catalog.num_users + 1 if kind == "bipartite" else 0  # nodes before those of items
    of_users, of_items = kept[kept < users] - 1, kept[kept >= users] - users - 1
    nodes = [Nodes("item_id", catalog.item_ids(of_items + 1), catalog.titles(of_items + 1), len(of_users))]
    if users:
        ids = catalog.users["user_id"].gather(of_users.numpy()).to_list()
        nodes.insert(0, Nodes("user_id", ids, ids, 0))
    isolated = catalog.num_items + max(0, users - 1) - len(kept)
    return Source(graph, tuple(nodes), isolated, made_of)


def with_edges(graph: Graph) -> tuple[Tensor, Graph]:
    """(K,) the nodes that an edge touches, and the graph of them alone, without names."""
    sources, targets, weights = graph.edges()
    kept, ends = torch.unique(torch.cat([sources, targets]), return_inverse=True)
    sources, targets = ends.split(len(sources))
    weighted = weights if graph.weighted else None
    return kept, Graph(sources, targets, len(kept), weighted, directed=graph.directed)


def _graph(rows: Interactions, kind: Kind, gap: float) -> Graph:
    if kind == "bipartite":
        return bipartite(rows)
    return co_occurrence(rows) if kind == "co-occurrence" else sessions(rows, gap)


def _beginnings(rows: Interactions, limit: int) -> Interactions:
    """The knowledge prefix of each user: the first interactions, from which knowledge may be drawn."""
    place = torch.arange(len(rows)) - torch.repeat_interleave(
        rows.lengths.cumsum(0) - rows.lengths, rows.lengths
    )
    counts = knowledge_prefix(rows.lengths, limit)
    return rows.select(place < torch.repeat_interleave(counts, rows.lengths))
