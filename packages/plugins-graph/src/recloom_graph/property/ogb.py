"""Sets in the layout of the Open Graph Benchmark (Hu et al., NeurIPS 2020), read and fetched without its library.

    raw/edge.csv.gz                source,target in each line, numbered within its graph
    raw/num-node-list.csv.gz       nodes of each graph      raw/num-edge-list.csv.gz  edges of each graph
    raw/node-feat.csv.gz           a line for each node; absent where nodes have no features
    raw/node-label.csv.gz          or graph-label.csv.gz: a line for each node or graph, columns are tasks
    split/NAME/train.csv.gz        numbers of the nodes or graphs; valid.csv.gz and test.csv.gz alike

Features of edges are not read. Edges are taken in both directions. Which address belongs to a name stands in the
table of the package `ogb`, which is read and not imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

import polars as pl
import torch
from recloom.data.prepare import fetch_zip
from recloom.errors import DataError, RecloomError
from torch import Tensor

from .csv_numbers import finite, read_table, whole, whole_numbers
from .graph_set import GraphSet
from .node_graph import PARTS, NodeGraph, symmetrised

Kind = Literal["nodeproppred", "graphproppred"]
READ = ("binary classification", "multiclass classification")
CATEGORIES = 2**20
"""Of a column of whole numbers; each has a vector of its own."""
UNTOLD = 2**28
"""Nodes that no line of features tells of: 2 GB."""


def is_ogb(folder: Path) -> bool:
    """Whether the folder holds a set in this layout."""
    return (folder / "raw" / "edge.csv.gz").is_file()


def set_folder(path: Path, name: str, kind: Kind) -> Path:
    """The folder of a set: `path` itself or the one of that name in it, fetched where it is not there.

    Raises DataError where there is none and no name, or where it cannot be fetched; RecloomError for an unknown name.
    """
    inside = path / name.replace("-", "_")
    for folder in (inside, path):
        if is_ogb(folder):
            return folder
    if not name.startswith("ogb"):
        raise DataError(
            f"{path} holds no set in OGB's layout: expected {path}/raw/edge.csv.gz and its companions. Name one that "
            "is to be fetched with --data.name, such as "
            + ("ogbn-arxiv" if kind == "nodeproppred" else "ogbg-molhiv")
        )
    facts = known_facts(name, kind)
    by_hand = f"By hand: unpack {facts['url']} so that {inside}/raw/edge.csv.gz exists."
    try:
        fetch_zip(facts["url"], inside, facts["download_name"])
    except DataError as error:
        raise DataError(f"{name} is not in {path} and cannot be fetched. {error} {by_hand}") from error
    if not is_ogb(inside):
        raise DataError(f"{inside} was fetched, but holds no raw/edge.csv.gz. Look at what lies there.")
    return inside


def known_facts(name: str, kind: Kind) -> dict[str, str]:
    """What the package `ogb` says of a set: `url`, `download_name`, `split`, `eval metric`, `task type` and more.

    Raises RecloomError where the package is absent, the name is unknown, or the set is of a sort that is not read.
    """
    spec = importlib.util.find_spec("ogb")
    if spec is None or not spec.submodule_search_locations:
        raise RecloomError(
            f"where {name} is kept stands in the package ogb, which is not installed. Install it with: "
            "pip install 'recloom-graph[ogb]'"
        )
    table = pl.read_csv(Path(spec.submodule_search_locations[0]) / kind / "master.csv", infer_schema=False)
    if name not in table.columns[1:]:
        raise RecloomError(f"OGB has no {kind} set {name!r}; it has {', '.join(table.columns[1:])}")
    facts = dict(zip(table.to_series(0).to_list(), table[name].fill_null("").to_list(), strict=True))
    odd = {
        "several kinds of nodes": facts.get("is hetero") == "True",
        "files of another format": facts.get("binary") == "True",
        facts["task type"]: facts["task type"] not in READ,
        "several tasks for a node": kind == "nodeproppred" and facts.get("num tasks", "1") != "1",
    }
    if any(odd.values()):
        why = next(reason for reason, holds in odd.items() if holds)
        raise RecloomError(f"{name} cannot be learnt here: it has {why}. Read are {' and '.join(READ)}.")
    return facts


def read_nodes(folder: Path) -> NodeGraph:
    """One graph whose nodes have a class. Raises DataError where the files do not hold that."""
    raw = folder / "raw"
    labels = _labels(raw / "node-label.csv.gz")
    if labels.shape[1] != 1:
        raise DataError(
            f"{raw}/node-label.csv.gz has {labels.shape[1]} columns; expected one class for each node"
        )
    path = raw / "node-feat.csv.gz"
    if not path.is_file():
        raise DataError(f"there is no file {path}, and nodes without features are not read")
    features, classes = finite(path, read_table(path)), labels[:, 0]
    nodes = whole_numbers(raw / "num-node-list.csv.gz", 1)[:, 0]
    if not len(features) or nodes.tolist() != [len(features)] or len(classes) != len(features):
        raise DataError(
            f"{raw}/num-node-list.csv.gz tells of {len(nodes):,} graphs of {int(nodes.sum()):,} nodes; expected one, "
            f"with a line for each node in node-feat.csv.gz, which has {len(features):,}, and in node-label.csv.gz, "
            f"which has {len(classes):,}. Fetch all of them again."
        )
    split, parts = _split(folder)
    edges = symmetrised(_edges(raw, torch.zeros(1, dtype=torch.long)), len(features))
    return NodeGraph(features, edges, classes, parts, int(classes.max()) + 1, split)


def read_graphs(folder: Path) -> GraphSet:
    """Graphs with labels. Raises DataError where the files do not hold that."""
    raw = folder / "raw"
    nodes = whole_numbers(raw / "num-node-list.csv.gz", 1)[:, 0]
    features = _features(raw, int(nodes.sum()))
    edges = symmetrised(_edges(raw, nodes.cumsum(0) - nodes), len(features))
    labels = _labels(raw / "graph-label.csv.gz")
    split, parts = _split(folder)
    return GraphSet(
        features, edges, nodes, labels.float().masked_fill(labels < 0, float("nan")), parts, split
    )


def _labels(path: Path) -> Tensor:
    """(N, T) int64 classes, of which there are no more than lines, or 0 and 1; -1 where one is missing."""
    table = read_table(path)
    return whole(path, table, largest=max(1, len(table) - 1), missing=True)


def _features(raw: Path, nodes: int) -> Tensor:
    """(N, F) int64 where all columns are whole numbers, else float32; one category where there is no file."""
    path = raw / "node-feat.csv.gz"
    told = f"{raw}/num-node-list.csv.gz tells of {nodes:,} nodes"
    if not path.is_file():
        if nodes > UNTOLD:
            raise DataError(
                f"{told}, and there is no node-feat.csv.gz; expected at most {UNTOLD:,}. Mend it."
            )
        return torch.zeros(nodes, 1, dtype=torch.long)
    table = read_table(path)
    if nodes != len(table):
        raise DataError(f"{told}; expected {len(table):,}, the lines of node-feat.csv.gz. Fetch both again.")
    if all(kind.is_integer() for kind in table.dtypes):
        return whole(path, table, largest=CATEGORIES - 1)
    return finite(path, table)


def _edges(raw: Path, first: Tensor) -> Tensor:
    """(2, E) nodes as numbered over all graphs, of which `first` (G,) are the first of each."""
    ends = whole_numbers(raw / "edge.csv.gz", 2).T
    counts = whole_numbers(raw / "num-edge-list.csv.gz", 1)[:, 0]
    if len(counts) != len(first) or int(counts.sum()) != ends.shape[1]:
        raise DataError(
            f"{raw}/num-edge-list.csv.gz tells of {int(counts.sum()):,} edges in {len(counts):,} graphs; edge.csv.gz "
            f"holds {ends.shape[1]:,}, num-node-list.csv.gz {len(first):,} graphs"
        )
    return ends + torch.repeat_interleave(first, counts)


def _split(folder: Path) -> tuple[str, dict[str, Tensor]]:
    """Name and parts of the only split. Raises DataError where there is none, or more than one."""
    found = sorted(path.name for path in (folder / "split").glob("*") if path.is_dir())
    if len(found) != 1:
        raise DataError(f"{folder}/split holds {', '.join(found) or 'no split'}; expected one folder")
    place = folder / "split" / found[0]
    return found[0], {part: whole_numbers(place / f"{part}.csv.gz", 1)[:, 0] for part in PARTS}
