"""Classification of nodes and of graphs on Planetoid's and OGB's files; `recloom graph predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .data_modules import GraphData as GraphData
    from .data_modules import NodeData as NodeData
    from .graph_property import GraphProperty as GraphProperty
    from .labelled_graphs import GraphSet as GraphSet
    from .labelled_graphs import NodeGraph as NodeGraph
    from .node_property import NodeProperty as NodeProperty
    from .planetoid import read_planetoid as read_planetoid

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "data_modules": "GraphData NodeData",
        "graph_property": "GraphProperty",
        "labelled_graphs": "GraphSet NodeGraph",
        "node_property": "NodeProperty",
        "planetoid": "read_planetoid",
    },
)
