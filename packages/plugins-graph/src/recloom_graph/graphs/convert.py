"""Conversion to and from graphs of networkx, PyG and DGL; each library is imported when its function is called.

networkx keeps names, weights and directions. PyG and DGL number their nodes, so names are dropped, and an
undirected edge is stored in both directions.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

import torch
from recloom.errors import RecloomError

from . import sparse
from .graph import Graph

if TYPE_CHECKING:
    import dgl
    import networkx
    from torch_geometric.data import Data


def to_networkx(graph: Graph) -> networkx.Graph:
    """A Graph or DiGraph whose nodes are the names, with `weight` on edges of a weighted graph."""
    import networkx

    found: networkx.Graph = (networkx.DiGraph if graph.directed else networkx.Graph)()
    names = graph.names or range(graph.num_nodes)
    found.add_nodes_from(names)
    sources, targets, weights = (part.tolist() for part in graph.edges())
    if graph.weighted:
        rows = zip(sources, targets, weights, strict=True)
        found.add_weighted_edges_from(
            (names[source], names[target], weight) for source, target, weight in rows
        )
    else:
        found.add_edges_from(
            (names[source], names[target]) for source, target in zip(sources, targets, strict=True)
        )
    return found


def from_networkx(graph: networkx.Graph, weight: str | None = "weight") -> Graph:
    """The Graph of any networkx graph, parallel edges merged; an edge without the attribute `weight` weighs 1."""
    names = list(graph.nodes)
    place = {name: number for number, name in enumerate(names)}
    rows = [(place[source], place[target], data) for source, target, data in graph.edges(data=True)]
    ends = torch.tensor([row[:2] for row in rows], dtype=torch.long).reshape(-1, 2)
    weights = None
    if weight is not None and any(weight in data for *_, data in rows):
        weights = torch.tensor([float(data.get(weight, 1)) for *_, data in rows])
    numbered = names == list(range(len(names)))
    labels = () if numbered else tuple(str(name) for name in names)
    return Graph(ends[:, 0], ends[:, 1], len(names), weights, labels, graph.is_directed())


def to_pyg(graph: Graph) -> Data:
    """Data with `edge_index` (2, E), and `edge_attr` (E,) of weights where the graph has them."""
    data = needed("torch_geometric.data", "pyg")
    rows, columns, weights = sparse.entries(graph.matrix)
    found: Data = data.Data(edge_index=torch.stack([rows, columns]), num_nodes=graph.num_nodes)
    if graph.weighted:
        found.edge_attr = weights
    return found


def from_pyg(data: Data, directed: bool | None = None) -> Graph:
    """The Graph of `edge_index`, and of `edge_attr` where it is (E,).

    directed: None = unless every edge is also there in the other direction.
    """
    rows, columns = data.edge_index
    weights = data.edge_attr if data.edge_attr is not None and data.edge_attr.dim() == 1 else None
    one_way = not data.is_undirected() if directed is None else directed
    return _undirected_once(rows, columns, int(data.num_nodes), weights, one_way)


def to_dgl(graph: Graph) -> dgl.DGLGraph:
    """A DGLGraph, with `weight` in its edge data where the graph has weights."""
    library = dgl_library()
    rows, columns, weights = sparse.entries(graph.matrix)
    found = library.graph((rows, columns), num_nodes=graph.num_nodes)
    if graph.weighted:
        found.edata["weight"] = weights
    return found


def from_dgl(graph: dgl.DGLGraph, directed: bool = True) -> Graph:
    """The Graph of the edges and their `weight`, where they have one."""
    rows, columns = graph.edges()
    return _undirected_once(rows, columns, int(graph.num_nodes()), graph.edata.get("weight"), directed)


def dgl_library() -> Any:
    """The library DGL with its torch backend. Raises RecloomError as `needed` does."""
    os.environ.setdefault("DGLBACKEND", "pytorch")  # it writes a file into the home folder otherwise
    return needed("dgl", "dgl", until=(3, 11))


def needed(module: str, extra: str, until: tuple[int, int] | None = None) -> Any:
    """Import an optional library, which has wheels `until` a version of Python.

    Raises RecloomError that names the extra, or that version, where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        step = f"Install it with: pip install 'recloom-graph[{extra}]'"
        if until is not None and sys.version_info[:2] > until:
            step = (
                f"It has wheels up to Python {until[0]}.{until[1]}, and this is {platform.python_version()}"
            )
        raise RecloomError(f"this needs {name}, which cannot be imported ({error}). {step}") from error


def _undirected_once(
    rows: torch.Tensor, columns: torch.Tensor, nodes: int, weights: torch.Tensor | None, directed: bool
) -> Graph:
    """The Graph where an undirected edge stored in both directions is one edge, not one of twice the weight."""
    if not directed:
        once = rows <= columns
        rows, columns, weights = rows[once], columns[once], None if weights is None else weights[once]
    return Graph(rows.long(), columns.long(), nodes, weights, directed=directed)
