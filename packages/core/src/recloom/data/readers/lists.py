"""Rows that hold a user and a list of items: one row for each item, in the order of the list."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ...errors import DataError
from .text_lists import split_lists

SAMPLE = 1_000
LITERAL = 1 << 20
"""Characters of a list that is a literal of Python at most."""


def one_row_an_item(
    path: Path, frame: pl.DataFrame, marks: Mapping[str, str] | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """The frame with lists of `item_id`, and the lists beside them, taken apart; and what was done.

    Lists may be columns of lists, texts that are JSON arrays, or, where `marks` says what separates them, words.
    Raises DataError where lists of one row differ in length, where another column than that of the items holds lists
    alone, and for ids that are no single values.
    """
    frame = split_lists(frame, marks or {})
    frame = frame.with_columns(_of_text(frame[name]) for name in frame.columns if name != "line")
    listed = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
    frame = frame.with_columns(pl.col(name).cast(_list_of(frame.schema[name])) for name in listed)
    _refuse(path, frame, listed)
    if "item_id" not in listed:
        return frame, []
    length = pl.col("item_id").list.len()
    uneven = {name: frame.filter(pl.col(name).list.len() != length) for name in listed}
    for name in ("timestamp", "value"):
        if name in listed and uneven[name].height:
            row = uneven[name].row(0, named=True)
            raise DataError(
                f"{path}, row {row['line']:,}: {len(row['item_id'])} items and {len(row[name])} of {name}. Expected "
                "lists of one length, or one value a row; mend the row, or leave the column out with "
                f"--{'time' if name == 'timestamp' else 'value'}-column none."
            )
    together = [name for name in listed if not uneven[name].height]
    found = frame.explode(together, empty_as_null=True)
    beside = [name for name in together if name != "item_id"]
    also = f" with {', '.join(beside)}" if beside else ""
    return found, [
        f"item_id{also} holds lists: {frame.height:,} rows became {found.height:,}, in their order"
    ]


def _list_of(kind: pl.DataType) -> pl.DataType:
    return pl.List(kind.inner) if isinstance(kind, pl.Array) else kind


def _of_text(values: pl.Series) -> pl.Series:
    """Texts that are JSON arrays, or lists of Python, as lists of texts; other values as they are."""
    if values.dtype != pl.String or values.name not in ("item_id", "timestamp", "value"):
        return values
    sample = values.head(SAMPLE).drop_nulls()
    if not len(sample) or not all(isinstance(_loaded(text), list) for text in sample):
        return values
    lists = [None if text is None else _loaded(text) for text in values]
    texts = [[_text(one) for one in found] if isinstance(found, list) else None for found in lists]
    return pl.Series(values.name, texts, dtype=pl.List(pl.String))


def _loaded(text: str) -> Any:
    if not text.startswith("["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:  # as programs in Python write lists: a literal, which is parsed and never run
        return ast.literal_eval(text) if len(text) <= LITERAL else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refuse(path: Path, frame: pl.DataFrame, listed: list[str]) -> None:
    for name in ("user_id", "item_id", "timestamp", "value"):
        kind = frame.schema.get(name, pl.String())
        may_be_list = name != "user_id" and "item_id" in listed
        one = kind.inner if isinstance(kind, pl.List) and may_be_list else kind
        if isinstance(one, pl.DataType) and one.is_nested():
            raise DataError(
                f"{path}: the column taken for {name} holds {kind}. Expected one value a row, or one user and a list "
                "of items; name another column, or take this one apart."
            )
