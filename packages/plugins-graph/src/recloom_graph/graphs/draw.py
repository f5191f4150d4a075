"""A graph drawn as SVG: nodes as large as their rank, the highest ones named, hovering names the others."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from recloom.terminal import plain
from torch import Tensor

from .convert import to_networkx
from .graph import Graph

WIDTH, HEIGHT, MARGIN = 1200.0, 900.0, 70.0
MOST = 300
"""Nodes that a drawing holds; of a larger graph the highest ranked ones."""
NAMED = 30
"""Nodes whose names are written, where there is room for them."""
SPREAD = 0.6
"""How far places give way to their order, from 0 (as the springs leave them) to 1 (as many nodes in every strip)."""
LONGEST = 40
"""Columns of a name."""
SIZE = 13.0
"""Of the letters."""

STYLE = """
  svg { background: #fff; font-family: 'Noto Sans', 'Noto Sans CJK SC', 'Helvetica Neue', Arial, sans-serif }
  line { stroke: #8a94a6 } circle { stroke: #fff; stroke-width: 1.2 } circle:hover { stroke: #111 }
  text { fill: #16202e; paint-order: stroke; stroke: #fff; stroke-width: 3.5px; stroke-linejoin: round }
"""


@dataclass(frozen=True)
class Box:
    """Where a name is written: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return not (
            self.right < other.left
            or other.right < self.left
            or self.bottom < other.top
            or other.bottom < self.top
        )


def draw(graph: Graph, ranks: Tensor, title: str) -> str:
    """The SVG of a graph whose nodes have ranks (N,) above 0 or 0."""
    shown, ranks = highest(graph, ranks)
    places = laid_out(shown)
    share = (ranks / ranks.max().clamp(min=1e-30)).tolist()
    radii = [3.5 + 22 * value**0.5 for value in share]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img">',
        f"<style>{STYLE}</style>",
        f'<text x="20" y="32" font-size="20" font-weight="600">{_text(title, 90)}</text>',
        f'<text x="20" y="54" font-size="{SIZE:.0f}">{_text(_caption(graph, shown), 160)}</text>',
        *_lines(shown, places),
        *_circles(shown, places, radii, share, ranks.tolist()),
        *_names(shown, places, radii, ranks),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def highest(graph: Graph, ranks: Tensor) -> tuple[Graph, Tensor]:
    """What is drawn: of the connected part with the most rank, the MOST highest nodes and the edges among them."""
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


def laid_out(graph: Graph) -> np.ndarray:
    """(N, 2) places within the margins: springs along the edges, from a fixed start, crowds spread out."""
    import networkx

    drawn = networkx.Graph(to_networkx(graph))
    usual = float(np.median([weight for *_, weight in drawn.edges(data="weight", default=1.0)] or [1.0]))
    for _, _, facts in drawn.edges(data=True):  # heavy edges pull more, but not a thousand times more
        facts["weight"] = 1 + np.log1p(facts.get("weight", 1.0) / usual)
    layout = networkx.spring_layout(drawn, k=3 / max(1, graph.num_nodes) ** 0.5, iterations=150, seed=0)
    places = np.array([layout[node] for node in drawn], dtype=float).reshape(-1, 2)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN - 20])
    even = places.argsort(0, kind="stable").argsort(0) / max(1, graph.num_nodes - 1)
    low, high = places.min(0, initial=0.0), places.max(0, initial=0.0)
    spread = (SPREAD * even + (1 - SPREAD) * (places - low) / np.maximum(high - low, 1e-9)) * room
    return np.asarray(np.array([MARGIN, MARGIN + 20]) + spread, dtype=float)


def _caption(graph: Graph, shown: Graph) -> str:
    kind = "directed" if graph.directed else "undirected"
    told = f"{graph.num_nodes:,} nodes, {graph.num_edges:,} {kind} edges; a node is as large as its PageRank"
    return (
        told
        if shown is graph
        else f"{told}; drawn are {shown.num_nodes:,} of the part that holds the most of it"
    )


def _lines(graph: Graph, places: np.ndarray) -> list[str]:
    sources, targets, weights = (part.numpy() for part in graph.edges())
    heavy = np.log1p(weights / max(1e-30, float(np.median(weights)))) if len(weights) else weights
    widths = (
        0.5 + 2.0 * heavy / max(1e-30, float(heavy.max(initial=0.0))) if graph.weighted else 0.8 + 0 * heavy
    )
    faint = float(np.clip(60 / max(1, len(sources)) ** 0.5 / 5, 0.12, 0.6))
    return [
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke-width="{width:.2f}" '
        f'opacity="{faint:.2f}"/>'
        for a, b, width in zip(places[sources], places[targets], widths, strict=True)
    ]


def _circles(
    graph: Graph, places: np.ndarray, radii: list[float], share: list[float], ranks: list[float]
) -> list[str]:
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{_colour(part)}">'
        f"<title>{_text(graph.name(node))}: {rank:.4f}</title></circle>"
        for node, ((x, y), radius, part, rank) in enumerate(zip(places, radii, share, ranks, strict=True))
    ]


def _names(graph: Graph, places: np.ndarray, radii: list[float], ranks: Tensor) -> list[str]:
    """Names of the highest nodes, beside, above or below them, where no other name stands yet."""
    taken: list[Box] = []
    written = []
    for node in ranks.argsort(descending=True, stable=True)[:NAMED].tolist():
        told = plain(graph.name(node), LONGEST)
        wide = 0.56 * SIZE * told.cell_len
        for x, y in _around(places[node, 0], places[node, 1], radii[node], wide):
            box = Box(x, y - SIZE, x + wide, y + 0.3 * SIZE)
            inside = box.left > 0 and box.right < WIDTH and box.top > 60 and box.bottom < HEIGHT
            if inside and not any(box.meets(other) for other in taken):
                taken.append(box)
                written.append(
                    f'<text x="{x:.1f}" y="{y:.1f}" font-size="{SIZE:.0f}">{escape(told.plain)}</text>'
                )
                break
    return written


def _around(x: float, y: float, radius: float, wide: float) -> list[tuple[float, float]]:
    """Where a name may begin: right, left, above and below of a node."""
    middle = y + 0.35 * SIZE
    return [
        (x + radius + 3, middle),
        (x - radius - 3 - wide, middle),
        (x - wide / 2, y - radius - 4),
        (x - wide / 2, y + radius + SIZE),
    ]


def _text(name: str, columns: int = LONGEST) -> str:
    return escape(plain(name, columns).plain)


def _colour(share: float) -> str:
    """From a pale blue to a deep red, by the root of the share of the highest rank."""
    low, high = np.array([158, 190, 224]), np.array([190, 40, 46])
    red, green, blue = (low + (high - low) * share**0.5).round().astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
