"""A graph as SVG, by networkx and matplotlib: size and colour of a node show its rank, the highest are named.

Names are text: matplotlib reads no mathematics in them, and both it and ElementTree escape them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import torch
from recloom.terminal import plain
from torch import Tensor

from .convert import needed, to_networkx
from .graph import Graph

if TYPE_CHECKING:
    import networkx
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

WIDTH, HEIGHT, MARGIN = 1200.0, 900.0, 70.0
MOST = 300
"""Nodes that a drawing holds; of a larger graph the highest ranked ones."""
NAMED = 30
"""Nodes whose names are written, where there is room for them."""
SPREAD = 0.6
"""How far positions give way to their order, from 0 (spring layout) to 1 (as many nodes in every strip)."""
LONGEST = 40
"""Columns of a name."""
SIZE = 13.0
"""Points of the letters of a name."""
STYLE = {
    "svg.hashsalt": "recloom",  # ids of elements do not differ between runs
    "svg.fonttype": "none",  # text stays text, in the fonts of whoever looks at it
    "text.parse_math": False,
    "text.usetex": False,
}
XML = "http://www.w3.org/2000/svg"
CSS = "text { paint-order: stroke; stroke: #fff; stroke-width: 3.5px; stroke-linejoin: round }"


def draw_svg(graph: Graph, ranks: Tensor, title: str) -> str:
    """The SVG of a graph whose nodes have the ranks (N,), none below 0.

    Raises RecloomError that names the extra `draw` where matplotlib is not installed.
    """
    style, figures = needed("matplotlib.style", "draw"), needed("matplotlib.figure", "draw")
    shown, ranks = highest(graph, ranks)
    drawn = to_networkx(shown).to_undirected()
    with style.context(STYLE, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # measured here, drawn by the viewer
        figure = figures.Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)  # one unit of the axes is a point
        axes = figure.add_axes((0, 0, 1, 1))
        _draw_nodes_and_edges(axes, drawn, layout(drawn), ranks, shown.weighted)
        axes.text(20, HEIGHT - 32, plain(title, 90).plain, fontsize=20, fontweight="bold")
        axes.text(20, HEIGHT - 54, _caption(graph, shown), fontsize=SIZE)
        axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
        axes.set_axis_off()
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _with_tooltips(written.getvalue(), shown, ranks)


def highest(graph: Graph, ranks: Tensor) -> tuple[Graph, Tensor]:
    """The MOST highest nodes of the connected part with the most rank, with the edges among them."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    matrix = graph.matrix
    parts = torch.from_numpy(
        connected_components(
            csr_matrix((matrix.values(), matrix.col_indices(), matrix.crow_indices()), matrix.shape),
            directed=False,
        )[1]
    ).long()
    main = int(torch.bincount(parts, ranks).argmax())
    best = ranks.masked_fill(parts != main, -1).argsort(descending=True, stable=True)
    kept = best[: min(MOST, int((parts == main).sum()))].sort().values
    if len(kept) == graph.num_nodes:
        return graph, ranks
    place = torch.full((graph.num_nodes,), -1)
    place[kept] = torch.arange(len(kept))
    sources, targets, weights = graph.edges()
    inside = (place[sources] >= 0) & (place[targets] >= 0)
    names = [graph.name(node) for node in kept.tolist()]
    part = Graph(
        place[sources[inside]], place[targets[inside]], len(kept), weights[inside] if graph.weighted else None,
        names, graph.directed,
    )  # fmt: skip
    return part, ranks[kept]


def layout(drawn: networkx.Graph) -> np.ndarray:
    """(N, 2) positions within the margins: a spring layout from a fixed start, with crowds spread out."""
    import networkx

    pull = networkx.Graph(drawn)
    for (_, _, attributes), weight in zip(pull.edges(data=True), _relative_weights(drawn), strict=True):
        attributes["weight"] = 1 + weight
    count = max(1, len(pull))
    found = networkx.spring_layout(pull, k=3 / count**0.5, iterations=150, seed=0)
    springs = np.array([found[node] for node in pull], dtype=float).reshape(-1, 2)
    low, high = springs.min(0, initial=0.0), springs.max(0, initial=0.0)
    order = springs.argsort(0, kind="stable").argsort(0) / max(1, count - 1)
    mixed = SPREAD * order + (1 - SPREAD) * (springs - low) / np.maximum(high - low, 1e-9)
    return np.asarray(MARGIN + mixed * np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN - 20]), dtype=float)


def _relative_weights(drawn: networkx.Graph) -> np.ndarray:
    """(E,) log(1 + weight / median weight), so that heavy edges do not hide the others."""
    weights = np.array([weight for *_, weight in drawn.edges(data="weight", default=1.0)], dtype=float)
    return np.asarray(np.log1p(weights / max(1e-30, float(np.median(weights)))) if len(weights) else weights)


def _draw_nodes_and_edges(
    axes: Axes, drawn: networkx.Graph, positions: np.ndarray, ranks: Tensor, weighted: bool
) -> None:
    import networkx

    places = dict(zip(drawn, positions, strict=True))
    heavy = _relative_weights(drawn)
    widths = 0.5 + 2 * heavy / max(1e-30, float(heavy.max(initial=0.0))) if weighted else np.array([0.8])
    faint = float(np.clip(60 / max(1, len(heavy)) ** 0.5 / 5, 0.12, 0.6))
    networkx.draw_networkx_edges(
        drawn, places, ax=axes, arrows=False, width=widths.tolist(), edge_color="#8a94a6", alpha=faint
    )
    share = (ranks / ranks.max().clamp(min=1e-30)).sqrt().numpy()
    radii = 3.5 + 22 * share
    networkx.draw_networkx_nodes(
        drawn, places, ax=axes, node_size=(2 * radii) ** 2, node_color=share, cmap="coolwarm",
        vmin=-0.3, vmax=1.1, edgecolors="white", linewidths=1.2,
    ).set_gid("nodes")  # fmt: skip
    _write_names(axes, [str(name) for name in drawn], positions, radii, ranks)


def _write_names(
    axes: Axes, names: list[str], positions: np.ndarray, radii: np.ndarray, ranks: Tensor
) -> None:
    """Name the highest nodes where a name covers neither another one nor another of these nodes."""
    from matplotlib.transforms import Bbox

    highest = ranks.argsort(descending=True, stable=True)[:NAMED].tolist()
    taken = [
        Bbox([positions[node] - radii[node], positions[node] + radii[node]])
        for node in highest
        if radii[node] > SIZE / 2
    ]
    for node in highest:
        name = plain(names[node], LONGEST)
        wide = 0.6 * SIZE * name.cell_len
        for box, side in _boxes(positions[node, 0], positions[node, 1], float(radii[node]), wide):
            inside = box.x0 > 0 and box.x1 < WIDTH and box.y0 > 0 and box.y1 < HEIGHT - 60
            if inside and not box.count_overlaps(taken):
                taken.append(box)
                start = {"left": box.x0, "right": box.x1, "center": (box.x0 + box.x1) / 2}[side]
                axes.text(start, box.y0 + 0.3 * SIZE, name.plain, ha=side, fontsize=SIZE, parse_math=False)
                break


def _boxes(x: float, y: float, radius: float, wide: float) -> Iterator[tuple[Bbox, str]]:
    """Where the name of a node fits and how it is aligned: right, left, above and below."""
    from matplotlib.transforms import Bbox

    high = 1.3 * SIZE
    yield Bbox.from_bounds(x + radius + 3, y - high / 2, wide, high), "left"
    yield Bbox.from_bounds(x - radius - 3 - wide, y - high / 2, wide, high), "right"
    yield Bbox.from_bounds(x - wide / 2, y + radius + 3, wide, high), "center"
    yield Bbox.from_bounds(x - wide / 2, y - radius - 3 - high, wide, high), "center"


def _caption(graph: Graph, shown: Graph) -> str:
    kind = "directed" if graph.directed else "undirected"
    whole = f"{graph.num_nodes:,} nodes, {graph.num_edges:,} {kind} edges; larger nodes have more PageRank"
    return (
        whole if shown is graph else f"{whole}; shown are {shown.num_nodes:,} of the part with the most rank"
    )


def _with_tooltips(svg: bytes, graph: Graph, ranks: Tensor) -> str:
    """The SVG without its XML head, with a style, and with the name and rank of each node as its tooltip."""
    ElementTree.register_namespace("", XML)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)
    style = ElementTree.Element(f"{{{XML}}}style")
    style.text = CSS
    root.insert(0, style)
    group = next(each for each in root.iter(f"{{{XML}}}g") if each.get("id") == "nodes")
    # one element a node, in order; nodes of one size are copies (use) of one definition
    circles = list(group.iter(f"{{{XML}}}use")) or list(group.iter(f"{{{XML}}}path"))
    for node, circle in zip(range(graph.num_nodes), circles, strict=True):
        name = plain(graph.name(node), LONGEST).plain
        ElementTree.SubElement(circle, f"{{{XML}}}title").text = f"{name}: {float(ranks[node]):.4f}"
    return ElementTree.tostring(root, encoding="unicode") + "\n"
