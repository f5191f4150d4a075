"""`recloom graph pagerank`: nodes of a graph in a file by PageRank, as a table, a file and a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recloom.command import command

if TYPE_CHECKING:
    from torch import Tensor

    from ..graphs.graph import Graph


@command("graph pagerank")
def pagerank(
    file: Path,
    *,
    directed: bool = True,
    weighted: bool = True,
    relations: list[str] | None = None,
    restart: list[str] | None = None,
    damping: float = 0.85,
    tolerance: float = 1e-6,
    top: int = 10,
    out: Path | None = None,
    draw: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Rank the nodes of a graph in a file, such as the characters of a novel, by PageRank.

    Args:
        file: edges as `head,tail,relation` or `source,target,weight`, with a header; or two columns without one.
        directed: whether an edge passes rank one way only; false for relations that hold both ways.
        weighted: whether a column of weights counts.
        relations: only edges of these relations, by default all.
        restart: names of nodes; ranks are then those seen from them (personalised PageRank).
        damping: the chance to walk on rather than restart.
        tolerance: stop when the ranks changed by less than (number of nodes) * tolerance in sum.
        top: how many nodes the table shows.
        out: also write every node and its rank to this CSV or Parquet file.
        draw: also draw the graph into this .svg or .html file; needs matplotlib (the extra `draw`).
        overwrite: replace existing files.
    """
    from recloom.errors import RecloomError, at_least
    from recloom.io import writable

    from ..graphs.convert import needed
    from ..graphs.edge_files import read_graph
    from .ranks import pagerank as ranked

    at_least(1, top=top)
    if out is not None:
        writable(out, endings=(".csv", ".parquet"), overwrite=overwrite)
    if draw is not None:
        writable(draw, "--draw", endings=(".svg", ".html"), overwrite=overwrite)
    if tolerance <= 0:
        raise RecloomError(f"--tolerance must be above 0; found {tolerance}")
    if draw is not None:
        needed("matplotlib.figure", "draw")
    graph = read_graph(file, directed, weighted, tuple(relations or ()))
    ranks = ranked(graph, _restart(graph, restart or []), damping, tolerance)
    _show(file, graph, ranks, top)
    if out is not None:
        _write_table(graph, ranks, out)
        print(f"{graph.num_nodes:,} ranks written to {out}")
    if draw is not None:
        from recloom.io import write_text

        from ..graphs.draw import draw_svg

        write_text(draw, _page(draw_svg(graph, ranks, f"PageRank of {file.name}"), file.name, draw))
        print(f"drawn into {draw}")


def _restart(graph: Graph, names: list[str]) -> Tensor | None:
    import torch

    if not names:
        return None
    start = torch.zeros(graph.num_nodes)
    start[[graph.index(name) for name in names]] = 1
    return start / start.sum()


def _show(file: Path, graph: Graph, ranks: Tensor, top: int) -> None:
    import torch
    from recloom.terminal import plain
    from rich.console import Console
    from rich.table import Table

    sources, targets, _ = graph.edges()
    leave = torch.bincount(sources, minlength=graph.num_nodes)
    enter = torch.bincount(targets, minlength=graph.num_nodes)
    kind = "directed" if graph.directed else "undirected"
    title = f"{file.name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} {kind} edges"
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("node", overflow="fold")
    table.add_column("PageRank", justify="right")
    for column in ("edges in", "edges out") if graph.directed else ("edges",):
        table.add_column(column, justify="right")
    for place, node in enumerate(ranks.argsort(descending=True, stable=True)[:top].tolist(), 1):
        counts = (enter[node], leave[node]) if graph.directed else (enter[node] + leave[node],)
        shown = (f"{int(count):,}" for count in counts)
        table.add_row(str(place), plain(graph.name(node)), f"{float(ranks[node]):.4f}", *shown)
    console = Console()
    console.print(plain(title, console.width))
    console.print(table)


def _write_table(graph: Graph, ranks: Tensor, out: Path) -> None:
    import polars as pl
    from recloom.io import whole_file

    nodes = [graph.name(node) for node in range(graph.num_nodes)]
    table = pl.DataFrame({"node": nodes, "pagerank": ranks.numpy()}).sort(
        "pagerank", descending=True, maintain_order=True
    )
    with whole_file(out) as partial:
        table.write_csv(partial) if out.suffix == ".csv" else table.write_parquet(partial)


def _page(svg: str, name: str, target: Path) -> str:
    if target.suffix == ".svg":
        return svg
    from html import escape

    style = "body { margin: 0 } svg { width: 100vw; height: 100vh }"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>PageRank of {escape(name)}</title>'
        f"<style>{style}</style></head><body>\n{svg}</body></html>\n"
    )
