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

import numpy as np
import polars as pl
import torch
from recloom.data.download import fetch_zip
from recloom.errors import DataError, RecloomError
from torch import Tensor

from .graph_set import GraphSet
from .node_graph import PARTS, NodeGraph, symmetrised

Kind = Literal["nodeproppred", "graphproppred"]
READ = ("binary classification", "multiclass classification")


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
    nodes = int(_numbers(raw / "num-node-list.csv.gz").sum())
    labels = _table(raw / "node-label.csv.gz").to_numpy()
    if labels.shape[1] != 1:
        raise DataError(
            f"{raw}/node-label.csv.gz has {labels.shape[1]} columns; expected one class for each node"
        )
    if not (raw / "node-feat.csv.gz").is_file():
        raise DataError(f"there is no file {raw}/node-feat.csv.gz, and nodes without features are not read")
    features = torch.from_numpy(_table(raw / "node-feat.csv.gz").to_numpy().astype(np.float32))
    classes = torch.from_numpy(np.nan_to_num(labels[:, 0].astype(float), nan=-1).astype(np.int64))
    split, parts = _split(folder)
    edges = symmetrised(_edges(raw, torch.zeros(1, dtype=torch.long)), nodes)
    return NodeGraph(features, edges, classes, parts, int(classes.max()) + 1, split)


def read_graphs(folder: Path) -> GraphSet:
    """Graphs with labels. Raises DataError where the files do not hold that."""
    raw = folder / "raw"
    nodes = _numbers(raw / "num-node-list.csv.gz")
    first = nodes.cumsum(0) - nodes
    edges = symmetrised(_edges(raw, first), int(nodes.sum()))
    labels = torch.from_numpy(
        _table(raw / "graph-label.csv.gz").cast(pl.Float32).fill_null(float("nan")).to_numpy()
    )
    split, parts = _split(folder)
    return GraphSet(_features(raw, int(nodes.sum())), edges, nodes, labels.clone(), parts, split)


def _features(raw: Path, nodes: int) -> Tensor:
    """(N, F) int64 where all columns are whole numbers, else float32; one category where there is no file."""
    path = raw / "node-feat.csv.gz"
    if not path.is_file():
        return torch.zeros(nodes, 1, dtype=torch.long)
    table = _table(path)
    whole = all(kind.is_integer() for kind in table.dtypes)
    found = torch.from_numpy(table.to_numpy().astype(np.int64 if whole else np.float32))
    if whole and found.numel() and int(found.min()) < 0:
        raise DataError(f"{path} holds the category {int(found.min())}; expected numbers from 0 on")
    return found


def _edges(raw: Path, first: Tensor) -> Tensor:
    """(2, E) nodes as numbered over all graphs, of which `first` (G,) are the first of each."""
    ends = torch.from_numpy(_table(raw / "edge.csv.gz").to_numpy().astype(np.int64)).T
    counts = _numbers(raw / "num-edge-list.csv.gz")
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
    return found[0], {part: _numbers(folder / "split" / found[0] / f"{part}.csv.gz") for part in PARTS}


def _numbers(path: Path) -> Tensor:
    return torch.from_numpy(_table(path).to_numpy().astype(np.int64)[:, 0].copy())


def _table(path: Path) -> pl.DataFrame:
    """A compressed table without header. Raises DataError where it is absent, damaged, or holds no numbers."""
    try:
        table = pl.read_csv(path, has_header=False, infer_schema_length=None)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as a compressed table ({error}). Fetch it again.") from error
    wrong = [kind for kind in table.dtypes if not kind.is_numeric()]
    if wrong:
        raise DataError(f"{path} holds values of type {wrong[0]}; expected numbers without a header")
    return table
