"""Speed of the graph package beside DGL, PyG, networkx, igraph, scikit-network and plain Python, on ml-1m.

    pip install 'recloom-graph[dgl,pyg]' igraph scikit-network
    OMP_NUM_THREADS=1 python benchmarks/graph_speed.py --data ../shared/data

    propagation     3 layers of LightGCN, d = 64, forward and backward
    pagerank        1,000 personalised PageRanks, each restarting on the items of a user
    walks           node2vec walks from every node

One thread for all. In each round everybody is timed once, in turns, in CPU time; a figure is the median of the
rounds, and a ratio the median of the ratios within a round. Who would take too long gets a part of the work, and the
time is scaled up (`timed` says how many of how many). `--parts walks` repeats a part and keeps the others as they
are in graph_speed.json, which stands beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
from bisect import bisect
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from time import process_time
from typing import Any

import igraph
import networkx
import numpy as np
import polars as pl
import torch
from recloom.data import Catalog, Interactions
from recloom_graph.embedding.walks import Walker
from recloom_graph.graphs.backends import product
from recloom_graph.graphs.convert import dgl_library
from recloom_graph.graphs.dataset_graphs import bipartite
from recloom_graph.graphs.graph import Graph
from recloom_graph.graphs.sparse import entries
from recloom_graph.models.propagation import propagate
from recloom_graph.pagerank.ranks import pagerank
from recloom_graph.pagerank.recommender import PersonalizedPageRank
from scipy.sparse import csr_matrix
from sknetwork.ranking import PageRank
from torch import Tensor
from torch_geometric.nn import LGConv

DIM, LAYERS = 64, 3
RESTARTS, DAMPING, TOLERANCE, TOP = 1000, 0.85, 1e-6, 20
LENGTH = 80
SEED = 0
RECORD = Path(__file__).with_suffix(".json")


class Clock:
    """CPU seconds of contenders who take turns; `share` is the part of the whole work that one was given."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.given: dict[str, str] = {}

    def time(self, name: str, work: Callable[[], Any], part: int = 1, whole: int = 1) -> Any:
        begin = process_time()
        found = work()
        self.times.setdefault(name, []).append((process_time() - begin) * whole / part)
        self.given[name] = f"{part:,} of {whole:,}"
        return found

    def seconds(self) -> dict[str, float]:
        return {name: round(statistics.median(times), 5) for name, times in self.times.items()}

    def ratio(self, one: str, other: str) -> float:
        """How many times as long `one` takes as `other`."""
        pairs = zip(self.times[one], self.times[other], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 3)


def propagation(catalog: Catalog, data: Interactions, rounds: int) -> dict[str, Any]:
    """Forward and backward of the mean of the layers 0 to 3."""
    dgl = dgl_library()
    graph = bipartite(data)
    matrix = graph.symmetric
    start = torch.randn(graph.num_nodes, DIM, generator=torch.Generator().manual_seed(SEED)) * 0.1
    upstream = torch.randn(graph.num_nodes, DIM, generator=torch.Generator().manual_seed(SEED + 1))
    rows, columns, _ = (part.int() for part in entries(matrix))
    edges = dgl.graph((columns, rows), num_nodes=graph.num_nodes).formats(["csr", "csc"])
    edges.create_formats_()
    scale = torch.where(graph.degree > 0, graph.degree, 1).rsqrt()[:, None]
    copied, summed = dgl.function.copy_u("x", "m"), dgl.function.sum("m", "y")
    convolution = LGConv(normalize=False)

    def dgl_layer(x: Tensor) -> Tensor:
        with edges.local_scope():
            edges.ndata["x"] = x * scale
            edges.update_all(copied, summed)
            return edges.ndata["y"] * scale

    def mean(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        layers = [x]
        for _ in range(LAYERS):
            layers.append(layer(layers[-1]))
        return torch.stack(layers).mean(0)

    contenders = {
        **{
            f"recloom {name}": partial(propagate, product(matrix, name), layers=LAYERS)
            for name in ("torch", "dgl", "pyg")
        },
        "DGL copy_u + sum": partial(mean, dgl_layer),
        "PyG LGConv on CSR": partial(mean, lambda x: convolution(x, matrix)),
    }  # fmt: skip

    def both(forward: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        leaf = start.clone().requires_grad_()
        value = forward(x=leaf)
        value.backward(upstream)
        return value.detach(), leaf.grad

    found = {
        name: both(forward) for name, forward in contenders.items()
    }  # and the first call of each is not timed
    ours = found["recloom torch"]
    clock = Clock()
    for _ in range(rounds):
        for name, forward in contenders.items():
            clock.time(name, partial(both, forward))
    return {
        "settings": {"dim": DIM, "layers": LAYERS, "rounds": rounds, "pyg": "matrix normalised beforehand"},
        "seconds": clock.seconds(),
        "recloom over DGL (at most 1.2)": clock.ratio("recloom torch", "DGL copy_u + sum"),
        "PyG over recloom (at least 3)": clock.ratio("PyG LGConv on CSR", "recloom torch"),
        "largest difference, forward and backward": {
            name: [float((a - b).abs().max()) for a, b in zip(pair, ours, strict=True)] for name, pair in found.items()
        },
    }  # fmt: skip


def personalised(catalog: Catalog, data: Interactions, rounds: int) -> dict[str, Any]:
    """The same restarts everywhere. Errors are against igraph, whose own tolerance is far below."""
    graph = bipartite(data)
    nodes, first = graph.num_nodes, data.num_users + 1
    users = 1 + torch.randperm(data.num_users, generator=torch.Generator().manual_seed(SEED))[:RESTARTS]
    history, _ = data.last(users, int(data.lengths.max()))  # (1000, L)
    restart = torch.zeros(nodes, RESTARTS)
    restart.scatter_(0, (first + history).T, 1)
    restart[first] = 0  # padding
    restart /= restart.sum(0)
    models = {
        name: PersonalizedPageRank(catalog, DAMPING, value) for name, value in _tolerances(nodes).items()
    }
    for model in models.values():
        model.fit(data)
    peers = _peers(graph)
    parts = {"networkx": 1, "igraph": 10, "scikit-network": 10, "scikit-network bicgstab": 10}
    clock, found = Clock(), {}
    for turn in range(rounds):
        for name, tolerance in _tolerances(nodes).items():
            found[name] = clock.time(
                f"recloom, {name}", partial(pagerank, graph, restart, tolerance=tolerance)
            )
            items = clock.time(f"recloom, {name}, ranks of items alone", partial(models[name].ranks, history))
            found[f"{name}, ranks of items alone"] = torch.cat([found[name][:first], items.T])
        for name, count in parts.items():
            some = range(turn * count, (turn + 1) * count)
            ranks = clock.time(name, partial(_each, peers[name], restart, some), count, RESTARTS)
            found.setdefault(f"peer {name}", []).extend(ranks)
    exact = torch.tensor(np.array(found["peer igraph"]).T)  # (N, restarts)
    some = exact.shape[1]
    told = {name: value for name, value in found.items() if not name.startswith("peer")}
    for name in ("networkx", "scikit-network", "scikit-network bicgstab"):
        told[name] = torch.tensor(np.array(found[f"peer {name}"]).T)
    return {
        "settings": {
            "restarts": RESTARTS, "damping": DAMPING, "rounds": rounds,
            "tolerance 1e-6": "an L1 change below 1e-6: scikit-network's measure, and stricter than networkx's, which "
            f"is {nodes:,} times that. igraph (PRPACK) has none to set, and stops far below.",
            "fast": f"an L1 change below {nodes:,} * 1e-6: what networkx means by tol=1e-6, and pagerank's default",
            "networkx": "it makes a matrix of its graph at every call, which counts",
        },
        "timed": clock.given,
        "seconds for 1,000": clock.seconds(),
        "times faster": {
            "at 1e-6 than networkx (at least 50)": clock.ratio("networkx", "recloom, tolerance 1e-6"),
            "fast, which is networkx's tolerance, than networkx": clock.ratio("networkx", "recloom, fast"),
            "at 1e-6 than igraph (at least 5)": clock.ratio("igraph", "recloom, tolerance 1e-6"),
            "at 1e-6 than scikit-network (at least 5)": clock.ratio("scikit-network", "recloom, tolerance 1e-6"),
            "at 1e-6 than scikit-network bicgstab": clock.ratio("scikit-network bicgstab", "recloom, tolerance 1e-6"),
            "fast than igraph (at least 40)": clock.ratio("igraph", "recloom, fast"),
            "fast, ranks of items alone, than igraph": clock.ratio("igraph", "recloom, fast, ranks of items alone"),
        },
        f"against igraph, over {some} restarts": {
            name: _against(exact, ranks[:, :some].double(), restart[:, :some], first) for name, ranks in told.items()
        },
    }  # fmt: skip


def _tolerances(nodes: int) -> dict[str, float]:
    return {"tolerance 1e-6": TOLERANCE / nodes, "fast": TOLERANCE}


def _peers(graph: Graph) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """From one restart distribution to the ranks of all nodes; each library has its graph already."""
    sources, targets, _ = (part.numpy() for part in graph.edges())
    pairs, nodes = np.stack([sources, targets], 1), graph.num_nodes
    whole = igraph.Graph(n=nodes, edges=pairs)
    peer = networkx.Graph()
    peer.add_nodes_from(range(nodes))
    peer.add_edges_from(pairs.tolist())
    matrix = graph.matrix
    parts = (matrix.values(), matrix.col_indices(), matrix.crow_indices())
    adjacency = csr_matrix(tuple(part.numpy() for part in parts), shape=(nodes, nodes), dtype=float)

    def by_networkx(restart: np.ndarray) -> np.ndarray:
        some = {int(node): float(restart[node]) for node in restart.nonzero()[0]}
        ranks = networkx.pagerank(peer, DAMPING, personalization=some, tol=TOLERANCE, max_iter=1000)
        return np.array([ranks[node] for node in range(nodes)])

    def by_scikit(restart: np.ndarray, solver: str) -> np.ndarray:
        return PageRank(DAMPING, solver, 1000, TOLERANCE).fit_predict(adjacency, weights=restart)

    return {
        "networkx": by_networkx,
        "igraph": lambda restart: np.array(whole.personalized_pagerank(damping=DAMPING, reset=restart)),
        "scikit-network": partial(by_scikit, solver="piteration"),
        "scikit-network bicgstab": partial(by_scikit, solver="bicgstab"),
    }


def _each(ranks: Callable[[np.ndarray], np.ndarray], restart: Tensor, some: range) -> list[np.ndarray]:
    return [ranks(restart[:, column].numpy().astype(float)) for column in some]


def _against(exact: Tensor, found: Tensor, restart: Tensor, first: int) -> dict[str, float]:
    """Of (N, R) ranks; the top holds items that are not of the history, as they are recommended."""
    some = found.shape[1]  # a slow peer has fewer
    exact, kept = exact[:, :some], (restart[first:, :some] == 0)
    tops = [torch.where(kept, ranks[first:], -1).topk(TOP, 0).indices for ranks in (exact, found)]
    both = (tops[0][:, None] == tops[1][None]).sum((0, 1)) / TOP
    error = (found - exact).abs()
    return {
        "restarts": some,
        "largest difference": float(error.max()),
        "largest L1 difference": float(error.sum(0).max()),
        f"mean overlap of the top {TOP}": round(float(both.mean()), 5),
    }


def walks(catalog: Catalog, data: Interactions, rounds: int) -> dict[str, Any]:
    """Against loops that know the neighbours of each node as a list and as a set; what is made once is not timed."""
    graph = bipartite(data)
    crow, col = (part.tolist() for part in (graph.matrix.crow_indices(), graph.matrix.col_indices()))
    near = [col[begin:end] for begin, end in pairwise(crow)]
    sets = [set(nodes) for nodes in near]
    starts = torch.nonzero(graph.degree > 0)[:, 0].repeat(2)
    starts = starts[torch.randperm(len(starts), generator=torch.Generator().manual_seed(SEED))]
    record: dict[str, Any] = {
        "settings": {"walks": len(starts), "length": LENGTH, "rounds": rounds},
        "what": {
            "plain loop": "weighs every neighbour as node2vec defines it, and draws one",
            "rejection loop": "proposes and accepts, the same sampling as recloom's but for its way back",
            "p = q = 1": "DeepWalk, which weighs and rejects nothing: both loops are the same",
        },
    }
    for p, q in ((1.0, 1.0), (0.5, 2.0), (1.0, 0.5), (2.0, 0.5), (1.0, 2.0)):
        clock, walker = Clock(), Walker(graph, p, q)
        for turn in range(rounds):
            clock.time("recloom", partial(walker.walks, starts, LENGTH))
            for name, step, count in (("plain loop", _weighed, 20), ("rejection loop", _rejected, 200)):
                some = starts[turn * count : (turn + 1) * count].tolist()
                loop = partial(_loop, some, step, near, sets, p, q, random.Random(turn))
                clock.time(name, loop, count, len(starts))
        record[f"p = {p}, q = {q}"] = {
            "timed": clock.given,
            "seconds": clock.seconds(),
            "times faster than the plain loop (at least 20)": clock.ratio("plain loop", "recloom"),
            "times faster than the rejection loop": clock.ratio("rejection loop", "recloom"),
        }
    return record


def _loop(
    starts: list[int], step: Callable[..., int], near: list[list[int]], sets: list[set[int]], p: float, q: float,
    rng: random.Random,
) -> list[list[int]]:  # fmt: skip
    found = []
    for start in starts:
        walk = [start]
        while len(walk) < LENGTH:
            around = near[walk[-1]]
            if not around:
                break
            if len(walk) == 1 or p == q == 1:
                walk.append(around[int(rng.random() * len(around))])
            else:
                walk.append(step(around, walk[-2], sets[walk[-2]], 1 / p, 1 / q, rng))
        found.append(walk)
    return found


def _weighed(
    around: list[int], came: int, joined: set[int], back: float, away: float, rng: random.Random
) -> int:
    total = list(accumulate(back if node == came else 1.0 if node in joined else away for node in around))
    return around[bisect(total, rng.random() * total[-1], 0, len(total) - 1)]


def _rejected(
    around: list[int], came: int, joined: set[int], back: float, away: float, rng: random.Random
) -> int:
    top = max(back, 1.0, away)
    while True:
        node = around[int(rng.random() * len(around))]
        if rng.random() * top < (back if node == came else 1.0 if node in joined else away):
            return node


def read(source: Path) -> tuple[Catalog, Interactions]:
    """Every interaction of the file: what is measured here is speed."""
    frame = pl.read_csv(
        source, separator=" ", has_header=False, new_columns=["user_id", "item_id"], infer_schema=False
    )
    catalog = Catalog(
        *(frame.select(column).unique(maintain_order=True) for column in ("item_id", "user_id"))
    )
    return catalog, Interactions.from_frame(frame, catalog)


PARTS = {"propagation": (propagation, 20), "pagerank": (personalised, 3), "walks": (walks, 5)}
"""With how many rounds."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RECLOOM_DATA", "../shared/data")))
    parser.add_argument("--parts", default=",".join(PARTS), help="those to measure, by default all")
    parser.add_argument("--out", type=Path, default=RECORD)
    given = parser.parse_args()
    source = given.data / "ml-1m" / "sequences.txt"
    if not source.is_file():
        raise SystemExit(f"no {source}; name the folder that holds ml-1m/sequences.txt with --data")
    if unknown := set(given.parts.split(",")) - set(PARTS):
        raise SystemExit(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("set OMP_NUM_THREADS=1: some of these libraries read it as they are loaded")
    torch.set_num_threads(1)
    catalog, data = read(source)
    libraries = (
        "recloom-graph",
        "torch",
        "dgl",
        "torch-geometric",
        "networkx",
        "igraph",
        "scikit-network",
        "numpy",
        "scipy",
    )
    before = json.loads(given.out.read_text()) if given.out.is_file() else {}
    record = {name: before[name] for name in PARTS if name in before}
    for name in given.parts.split(","):
        part, rounds = PARTS[name]
        record[name] = {
            "date": date.today().isoformat(),
            "versions": {library: version(library) for library in libraries},
            "machine": {
                "processor": _processor(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
            },
            **part(catalog, data, rounds),
        }
        print(name, json.dumps(record[name], indent=2), flush=True)
    head = {
        "what": (__doc__ or "").splitlines()[0],
        "protocol": "one thread for all, CPU seconds, contenders in turns within a round, medians over rounds",
        "data": {"users": data.num_users, "items": data.num_items, "edges": bipartite(data).num_edges},
    }
    given.out.write_text(
        json.dumps(head | {name: record[name] for name in PARTS if name in record}, indent=2) + "\n"
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
