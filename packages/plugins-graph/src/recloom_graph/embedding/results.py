"""Results of `recloom graph embed`: what it prints, and its Parquet files of vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from recloom.data import ENCODER, ORIGIN
from recloom.io import whole_file
from recloom.terminal import plain
from torch import Tensor
from torch.nn.functional import normalize

from .sources import Nodes

if TYPE_CHECKING:
    from .link_prediction import LinkEmbedding
    from .sources import Nodes, Source


SHOWN = 6
"""Losses that are printed: of the first epoch, of the last, and of some between."""
EXAMPLES, NEAREST = 4, 3
WIDTH = 34


def heading(name: str, source: Source) -> str:
    """One line on the size of the graph."""
    graph = source.graph
    kind = "directed" if graph.directed else "undirected"
    without = f"; {source.isolated:,} without an edge have no vector" if source.isolated else ""
    return f"{name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} {kind} edges{without}"


def losses_line(losses: Sequence[float]) -> str:
    """The loss of some epochs, by their numbers."""
    count = min(SHOWN, len(losses))
    epochs = sorted({round(at) for at in torch.linspace(1, len(losses), count).tolist()})
    return "loss by epoch: " + "  ".join(f"{epoch}: {losses[epoch - 1]:.4f}" for epoch in epochs)


def link_lines(embedding: LinkEmbedding) -> str:
    """Accuracy on training pairs, and AUC on held-out pairs."""
    trained, held = len(embedding.split.edges), len(embedding.split.held_out)
    accuracy = f"accuracy {embedding.accuracy():.4f} on {trained:,} training edges and as many non-edges"
    if not held:
        return f"{accuracy}; none were held out"
    return f"{accuracy}\nAUC {embedding.auc():.4f} on {held:,} held-out edges and as many non-edges (0.5 is chance)"


def show_neighbours(nodes: Nodes, degree: Tensor, vectors: Tensor, known: Tensor) -> None:
    """The nodes with the most edges, and which are nearest to them by cosine, as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(nodes.key.removesuffix("_id"))
    table.add_column("nearest")
    table.add_column("cosine", justify="right")
    for node, found in neighbours(nodes, degree, vectors, known):
        for at, (other, cosine) in enumerate(found):
            name = "" if at else nodes.titles[node]
            table.add_row(plain(name, WIDTH), plain(nodes.titles[other], WIDTH), f"{cosine:.2f}")
    Console().print(table)


def neighbours(
    nodes: Nodes, degree: Tensor, vectors: Tensor, known: Tensor
) -> list[tuple[int, list[tuple[int, float]]]]:
    """Of the nodes of most edges: their places among `nodes`, and places and cosines of the nearest."""
    mine = slice(nodes.first, nodes.first + len(nodes.ids))
    kept = known[mine].nonzero().squeeze(1)
    unit = normalize(vectors[mine][kept], dim=1)
    chosen = degree[mine][kept].argsort(descending=True, stable=True)[:EXAMPLES]
    cosines = unit[chosen] @ unit.T  # (examples, nodes)
    cosines.scatter_(1, chosen[:, None], -2.0)  # a node is no neighbour of itself
    values, places = cosines.topk(min(NEAREST, len(kept) - 1), dim=1)
    return [
        (int(kept[node]), [(int(kept[place]), float(value)) for place, value in zip(row, near, strict=True)])
        for node, row, near in zip(chosen, places, values, strict=True)
    ]


def write_vectors(
    target: Path,
    nodes: Nodes,
    vectors: Tensor,
    known: Tensor,
    recipe: dict[str, Any],
    made_of: dict[str, Any],
) -> int:
    """Write the vectors of these nodes and return how many there are; a node that is not known has no row.

    Args:
        vectors: (N, dim) of all nodes of the graph.
        known: (N,) bool, whether a node was trained.
        recipe: how they were made; vectors of another recipe mean other things.
        made_of: of which data; a run that holds other rows out refuses them.
    """
    mine = slice(nodes.first, nodes.first + len(nodes.ids))
    kept = known[mine]
    matrix = vectors[mine][kept].numpy()
    ids = [name for name, has in zip(nodes.ids, kept.tolist(), strict=True) if has]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    metadata = {ENCODER: json.dumps(recipe | made_of, sort_keys=True).encode()}
    if made_of:
        metadata[ORIGIN] = json.dumps({"texts": None, "columns": None} | made_of).encode()
    table = pa.table({nodes.key: pa.array(ids), "vector": lists}).replace_schema_metadata(metadata)
    with whole_file(target) as partial:
        pq.write_table(table, partial)
    return len(ids)
