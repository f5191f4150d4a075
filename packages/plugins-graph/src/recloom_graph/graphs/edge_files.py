"""Graphs from files: edge lists and triples, as tables with a header or without one.

    head,tail,relation,label        triples: an edge for each, whatever the relation
    source,target,weight            weighted edges
    12 34                           two columns without header, between blanks, tabs or commas

A byte order mark and a `#` before the header are tolerated. Lines that begin with `#` are comments.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import polars as pl
import torch
from recloom.errors import DataError

from .graph import Graph

SOURCES = ("head", "source", "src", "from", "subject", "u")
TARGETS = ("tail", "target", "dst", "to", "object", "v")
RELATIONS = ("relation", "type", "predicate", "label")
WEIGHTS = ("weight", "value", "count")


def read_graph(
    path: str | Path, directed: bool = True, weighted: bool = True, relations: tuple[str, ...] = ()
) -> Graph:
    """The graph of an edge list or of triples; nodes are numbered as they first occur.

    Args:
        directed: whether an edge leads one way only.
        weighted: whether a column of weights counts.
        relations: only edges of these relations; empty = all.

    Raises DataError, naming file and row, for a file that holds no edges, an end without a name, or a weight that
    is not a number above 0.
    """
    path = Path(path)
    table = read_edges(path)
    if relations:
        table = _of_relations(path, table, relations)
    ends = pl.concat([table["source"], table["target"]])
    names = table.select(pl.concat_list("source", "target").explode()).to_series().unique(maintain_order=True)
    index = ends.replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64).to_numpy()
    weights = None
    if weighted and "weight" in table.columns:
        weights = torch.from_numpy(table["weight"].to_numpy().copy())
    sources, targets = (torch.from_numpy(part.copy()) for part in np.split(index, 2))
    try:
        return Graph(sources, targets, len(names), weights, names.to_list(), directed)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_edges(path: Path) -> pl.DataFrame:
    """`source` and `target`, and `relation` and `weight` where the file has them; errors as in `read_graph`."""
    table = _table(path)
    if not table.height:
        raise DataError(f"{path} holds no edges; expected lines such as `head,tail` or `source target`")
    _check_ends(path, table)
    if "weight" in table.columns:
        table = _weighed(path, table)
    return table


def _table(path: Path) -> pl.DataFrame:
    lines = _lines(path)
    separator = next((mark for mark in (",", "\t", ";") if mark in lines[0]), " ") if lines else ","
    if separator == " ":
        lines = [" ".join(line.split()) for line in lines]
    header = _header(lines[0], separator) if lines else {}
    named = "source" in header and "target" in header
    try:
        table = pl.read_csv(
            io.BytesIO("\n".join(lines[1:] if named else lines).encode()),
            separator=separator, has_header=False, infer_schema=False,
        )  # fmt: skip
    except (pl.exceptions.PolarsError, pl.exceptions.NoDataError) as error:
        if not lines or isinstance(error, pl.exceptions.NoDataError):
            return pl.DataFrame(schema={"source": pl.String, "target": pl.String})
        raise DataError(f"{path} is not a table of edges: {error}") from error
    places = (
        header
        if named
        else dict(zip(("source", "target", "weight"), range(max(2, table.width)), strict=False))
    )
    if max(places.values()) >= table.width:
        raise DataError(
            f"{path} has {table.width} column between {separator!r}; expected at least the two ends of an edge, "
            "such as `head,tail,relation`"
        )
    return table.select(
        table[table.columns[place]].str.strip_chars().alias(name) for name, place in places.items()
    )


def _lines(path: Path) -> list[str]:
    """Of the file, without comments; a header may begin with `#` like a comment does."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(
            f"there is no file {path}; give a file of edges, such as `head,tail,relation` lines"
        ) from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise DataError(f"{path} is not a text file in UTF-8; save it as CSV in UTF-8") from error
    if text.lstrip()[:1] in ("{", "["):
        raise DataError(f"{path} holds JSON; expected a line for each edge, such as `head,tail,relation`")
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if lines and lines[0].startswith("#"):
        opening = lines[0].lstrip("# ")
        separator = next((mark for mark in (",", "\t", ";") if mark in opening), " ")
        if {"source", "target"} <= set(_header(opening, separator)):
            lines[0] = opening
    return [line for line in lines if not line.startswith("#")]


def _header(line: str, separator: str) -> dict[str, int]:
    """Column to place, as far as the names are known."""
    names = [name.strip().strip('"').casefold() for name in line.split(separator)]
    found = {}
    for column, known in {
        "source": SOURCES, "target": TARGETS, "relation": RELATIONS, "weight": WEIGHTS,
    }.items():  # fmt: skip
        place = next((names.index(name) for name in known if name in names), None)
        if place is not None:
            found[column] = place
    return found


def _check_ends(path: Path, table: pl.DataFrame) -> None:
    empty = table.select(
        pl.any_horizontal(pl.col(end).is_null() | (pl.col(end) == "") for end in ("source", "target"))
    ).to_series()
    if empty.any():
        raise DataError(
            f"{path}, edge {int(empty.arg_max() or 0) + 1}: an end has no name; expected two names"
        )


def _weighed(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    numbers = table["weight"].cast(pl.Float64, strict=False)
    wrong = ~(numbers.is_finite() & (numbers > 0)).fill_null(False)
    if wrong.any():
        place = int(wrong.arg_max() or 0)
        raise DataError(
            f"{path}, edge {place + 1}: the weight must be a number above 0; found {table['weight'][place]!r}. "
            "Leave the weights out with --no-weighted, or mend the file."
            + (" A header must name its columns, such as `head,tail,weight`." if place == 0 else "")
        )
    return table.with_columns(numbers.alias("weight"))


def _of_relations(path: Path, table: pl.DataFrame, relations: tuple[str, ...]) -> pl.DataFrame:
    if "relation" not in table.columns:
        raise DataError(f"{path} has no column of relations ({', '.join(RELATIONS)}), so none can be chosen")
    known = table["relation"].unique(maintain_order=True).to_list()
    absent = [name for name in relations if name not in known]
    if absent:
        some = ", ".join(str(name) for name in known[:12])
        raise DataError(
            f"{path} has no relation {absent[0]!r}; it has {some}{', ...' if len(known) > 12 else ''}"
        )
    return table.filter(pl.col("relation").is_in(relations))
