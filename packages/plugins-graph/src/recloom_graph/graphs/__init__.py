"""Graphs of datasets and of files, sparse products, conversion to other libraries, and drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .convert import from_dgl as from_dgl
    from .convert import from_networkx as from_networkx
    from .convert import from_pyg as from_pyg
    from .convert import to_dgl as to_dgl
    from .convert import to_networkx as to_networkx
    from .convert import to_pyg as to_pyg
    from .dataset_graphs import attributes as attributes
    from .dataset_graphs import bipartite as bipartite
    from .dataset_graphs import co_occurrence as co_occurrence
    from .dataset_graphs import sessions as sessions
    from .draw import draw_svg as draw_svg
    from .edge_files import read_edges as read_edges
    from .edge_files import read_graph as read_graph
    from .graph import Graph as Graph

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "convert": "from_dgl from_networkx from_pyg to_dgl to_networkx to_pyg",
        "dataset_graphs": "attributes bipartite co_occurrence sessions",
        "draw": "draw_svg",
        "edge_files": "read_edges read_graph",
        "graph": "Graph",
    },
)
