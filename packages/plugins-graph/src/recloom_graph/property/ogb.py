"""Reader of sets in the layout of the Open Graph Benchmark (Hu et al., NeurIPS 2020), without its library.

    raw/edge.csv.gz                source,target in each line, numbered within its graph
    raw/num-node-list.csv.gz       nodes of each graph      raw/num-edge-list.csv.gz  edges of each graph
    raw/node-feat.csv.gz           a line for each node; absent where nodes have no features
    raw/node-label.csv.gz          or graph-label.csv.gz: a line for each node or graph, columns are tasks
    split/NAME/train.csv.gz        numbers of the nodes or graphs; valid.csv.gz and test.csv.gz alike

Features of edges are not read. Edges are taken in both directions. The address of a set is in the table of the
package `ogb`, which is read and not imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from recloom.data.prepare import fetch_zip
from recloom.errors import DataError, RecloomError
from torch import Tensor

from .labelled_graphs import PARTS, GraphSet, NodeGraph, symmetrised

LARGEST = 2**31 - 1
"""Of whole numbers: they count or number something that a file holds."""
Numbers = np.ndarray[Any, np.dtype[np.float64]]


def read_table(path: Path) -> pl.DataFrame:
    """A table; one without lines has no columns either.

    Raises DataError where it is absent, damaged, or holds no numbers.
    """
    try:
        table = pl.read_csv(path, has_header=False, infer_schema_length=None)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except pl.exceptions.NoDataError as error:
        if not path.stat().st_size:  # what compresses to nothing has a header of its own
            raise DataError(
                f"{path} is an empty file; expected a compressed table. Fetch it again."
            ) from error
        return pl.DataFrame()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as a compressed table ({error}). Fetch it again.") from error
    wrong = [column.dtype for column in table if not column.dtype.is_numeric() and column.count()]
    if wrong:
        raise DataError(f"{path} holds values of type {wrong[0]}; expected numbers without a header")
    return table


def whole_numbers(
    path: Path, columns: int | None = None, largest: int | None = None, missing: bool = False
) -> Tensor:
    """(N, C) int64 from 0 on, see `whole`."""
    return whole(path, read_table(path), columns, largest, missing)


def whole(
    path: Path,
    table: pl.DataFrame,
    columns: int | None = None,
    largest: int | None = None,
    missing: bool = False,
) -> Tensor:
    """(N, C) int64 from 0 on.

    Args:
        path: where the table was read.
        table: numbers.
        columns: how many there must be; None = any.
        largest: number that is accepted, by default `LARGEST`.
        missing: whether a number may be left out, and is -1.

    Raises DataError where the table holds something else.
    """
    if len(table) and columns not in (None, table.width):
        raise DataError(f"{path} has {table.width} columns; expected {columns}. Fetch it again.")
    most = LARGEST if largest is None else largest
    values = _values(table)
    right = (values >= 0) & (values <= most) & (values == np.floor(values))
    _refuse(path, values, right | (np.isnan(values) & missing), f"a whole number from 0 to {most:,}")
    if not len(table):
        return torch.zeros(0, columns or 0, dtype=torch.long)
    return torch.from_numpy(np.nan_to_num(values, nan=-1).astype(np.int64))


def finite(path: Path, table: pl.DataFrame) -> Tensor:
    """(N, C) float32. Raises DataError where a number is left out, or is not finite as float32."""
    with np.errstate(over="ignore"):
        values = _values(table).astype(np.float32)
    _refuse(path, values, np.isfinite(values), "a finite number")
    return torch.from_numpy(values)


def _values(table: pl.DataFrame) -> Numbers:
    """(N, C), NaN for an empty cell; whole numbers up to 2 ** 53 are exact."""
    found: Numbers = table.cast(pl.Float64).to_numpy() if len(table) else np.zeros((0, 0))
    return found


def _refuse(path: Path, values: np.ndarray[Any, Any], right: np.ndarray[Any, Any], expected: str) -> None:
    if right.all():
        return
    row, column = np.argwhere(~right)[0]
    value = values[row, column]
    found = "no number" if np.isnan(value) else f"{value:.15g}"
    raise DataError(
        f"{path}, line {row + 1}, column {column + 1}: found {found}; expected {expected}. Mend that line, or fetch "
        "the file again."
    )


Kind = Literal["nodeproppred", "graphproppred"]
READ = ("binary classification", "multiclass classification")
CATEGORIES = 2**20
"""Of a column of whole numbers; each has a vector of its own."""
FEATURELESS_NODES = 2**28
"""Largest number of nodes without a file of features: 2 GB."""


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
    metadata = set_metadata(name, kind)
    by_hand = f"By hand: unpack {metadata['url']} so that {inside}/raw/edge.csv.gz exists."
    try:
        fetch_zip(metadata["url"], inside, metadata["download_name"])
    except DataError as error:
        raise DataError(f"{name} is not in {path} and cannot be fetched. {error} {by_hand}") from error
    if not is_ogb(inside):
        raise DataError(f"{inside} was fetched, but holds no raw/edge.csv.gz. Look into it.")
    return inside


def set_metadata(name: str, kind: Kind) -> dict[str, str]:
    """Metadata of a set from the package `ogb`: `url`, `download_name`, `split`, `eval metric`, `task type` and more.

    Raises RecloomError where the package is absent, the name is unknown, or the set is of a sort that is not read.
    """
    spec = importlib.util.find_spec("ogb")
    if spec is None or not spec.submodule_search_locations:
        raise RecloomError(
            f"the address of {name} is in the package ogb, which is not installed. Install it with: "
            "pip install 'recloom-graph[ogb]'"
        )
    table = pl.read_csv(Path(spec.submodule_search_locations[0]) / kind / "master.csv", infer_schema=False)
    if name not in table.columns[1:]:
        raise RecloomError(f"OGB has no {kind} set {name!r}; it has {', '.join(table.columns[1:])}")
    metadata = dict(zip(table.to_series(0).to_list(), table[name].fill_null("").to_list(), strict=True))
    odd = {
        "several kinds of nodes": metadata.get("is hetero") == "True",
        "files of another format": metadata.get("binary") == "True",
        metadata["task type"]: metadata["task type"] not in READ,
        "several tasks for a node": kind == "nodeproppred" and metadata.get("num tasks", "1") != "1",
    }
    if any(odd.values()):
        why = next(reason for reason, holds in odd.items() if holds)
        raise RecloomError(f"{name} cannot be learnt here: it has {why}. Read are {' and '.join(READ)}.")
    return metadata


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
            f"{raw}/num-node-list.csv.gz lists {len(nodes):,} graphs of {int(nodes.sum()):,} nodes; expected one, "
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
    listed = f"{raw}/num-node-list.csv.gz lists {nodes:,} nodes"
    if not path.is_file():
        if nodes > FEATURELESS_NODES:
            raise DataError(
                f"{listed}, and there is no node-feat.csv.gz; expected at most {FEATURELESS_NODES:,}. Mend it."
            )
        return torch.zeros(nodes, 1, dtype=torch.long)
    table = read_table(path)
    if nodes != len(table):
        raise DataError(
            f"{listed}; expected {len(table):,}, the lines of node-feat.csv.gz. Fetch both again."
        )
    if all(kind.is_integer() for kind in table.dtypes):
        return whole(path, table, largest=CATEGORIES - 1)
    return finite(path, table)


def _edges(raw: Path, first: Tensor) -> Tensor:
    """(2, E) nodes as numbered over all graphs, of which `first` (G,) are the first of each."""
    ends = whole_numbers(raw / "edge.csv.gz", 2).T
    counts = whole_numbers(raw / "num-edge-list.csv.gz", 1)[:, 0]
    if len(counts) != len(first) or int(counts.sum()) != ends.shape[1]:
        raise DataError(
            f"{raw}/num-edge-list.csv.gz lists {int(counts.sum()):,} edges in {len(counts):,} graphs; edge.csv.gz "
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
