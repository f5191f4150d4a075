"""Objects in cells: members are reached by name (`user.id`), MongoDB's wrappers are taken off, others are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from ...errors import DataError
from .jsonlines import read_json_lines
from .nested import one_row_an_object
from .text import holds, kind_of
from .values import Check

FLAGS = {
    "user_id": "--user-column", "item_id": "--item-column", "timestamp": "--time-column", "value": "--value-column",
}  # fmt: skip
OBJECT = r'^\s*\{\s*("|\})'
"""How a text begins that is an object; ids may stand in braces too."""
DEEP = 3
"""Objects of MongoDB within one another: `{"$date": {"$numberLong": ...}}` has two."""


def with_members(names: Sequence[str], asked: Sequence[str | None]) -> list[str]:
    """The keys of objects, and the members of them that are asked for, such as `user.id` where there is `user`."""
    members = [name for name in asked if name and name not in names and _top(name, names) != name]
    return [*names, *dict.fromkeys(members)]


def read_members(
    path: Path, columns: Mapping[str, str], keys: Sequence[str], encoding: str, notes: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """As `read_json_lines`, where columns may be members of objects.

    Args:
        columns: a key, or a member such as `user.id`, to what it is called in the table.
        keys: all keys of the objects.
    """
    if all(column in keys for column in columns):
        return read_json_lines(path, columns, python_literals=True, encoding=encoding, notes=notes)
    tops = {column: _top(column, keys) for column in columns}
    own = {top: f"key {place}" for place, top in enumerate(dict.fromkeys(tops.values()))}
    frame, bad = read_json_lines(path, own, python_literals=True, encoding=encoding, notes=notes)
    found = []
    for column, name in columns.items():
        value = pl.col(own[tops[column]])
        inside = column.removeprefix(tops[column]).removeprefix(".")
        found.append((value.str.json_path_match(_path(inside)) if inside else value).alias(name))
    return frame.select("line", *found), bad


def plain_values(
    path: Path, frame: pl.DataFrame, roles: Mapping[str, str], listed: Sequence[str], notes: list[str]
) -> tuple[pl.DataFrame, list[Check]]:
    """The frame with values taken out of objects of one member that begins with `$`, as MongoDB writes them.

    Args:
        roles: role to column of the file.
        listed: what was said of lists that were taken apart.

    Returns also the checks for ids that are other objects among plain ids, of which there are fewer than half. Raises
    DataError where there are more, since objects are no ids, times or values.
    """
    if not holds(path, b"{") and path.suffix != ".parquet":
        return frame, []
    for name in roles:
        for _ in range(DEEP):
            one, share = _first_object(frame.get_column(name, default=None))
            key = next(iter(one), "") if one is not None else ""
            wrapped = one is not None and len(one) == 1 and key.startswith("$") and key[1:].isidentifier()
            if not wrapped:
                break
            inner = pl.col(name).str.json_path_match(f"$['{key}']")
            frame = frame.with_columns(
                pl.when(_is_object(name)).then(pl.coalesce(inner, name)).otherwise(name)
            )
            few = "" if share == 1 else f", which {share:.2%} of the rows are"
            notes += {f"{name}: the value of {key} in its objects{few}"}.difference(notes)
        one, share = _first_object(frame.get_column(name, default=None))
        if one is not None and 2 * share >= 1:
            raise DataError(f"{path}: {_refusal(path, name, roles[name], one, listed)}")
    ids = [name for name in ("user_id", "item_id") if frame.schema[name] == pl.String]
    return frame, [(_is_object(name), f"{name} is an object, and others are plain ids") for name in ids]


def _is_object(name: str) -> pl.Expr:
    return pl.col(name).str.contains(OBJECT)


def _first_object(values: pl.Series | None) -> tuple[dict[str, Any] | None, float]:
    """The first object of a column of texts, and the share of objects among them; None where there is none."""
    if values is None or values.dtype != pl.String:
        return None, 0
    opened = values.filter(values.str.contains(OBJECT).fill_null(False))
    for text in opened.head(1):
        with suppress(ValueError, RecursionError):
            found = json.loads(text)
            return found, len(opened) / (len(values) - values.null_count())
    return None, 0


def _refusal(path: Path, name: str, column: str, one: Mapping[str, Any], listed: Sequence[str]) -> str:
    keys = ", ".join(one)[:200] or "no member"
    if listed:
        if kind_of(path) == "json" and (rows := one_row_an_object(path)):
            return rows.removeprefix(f"{path}: ")
        return (
            f"{column}, taken for {name}, holds lists of objects with {keys}. Write one line for each of these "
            "objects, with its user beside it."
        )
    if one and all(map(str.isdigit, one)):
        return (
            f"{column}, taken for {name}, holds a whole column by the number of the row, as pandas writes. Write one "
            'object for each row: to_json(path, orient="records", lines=True).'
        )
    member = next(iter(one), "NAME")
    return (
        f"{column}, taken for {name}, holds objects with {keys}. In JSON name the member that is meant, such as "
        f"{FLAGS[name]} {column}.{member}; elsewhere write it as a column of its own."
    )


def _top(name: str, keys: Sequence[str]) -> str:
    """The key that a name begins with: itself, or the longest one before a dot."""
    return max((key for key in keys if name == key or name.startswith(f"{key}.")), key=len, default=name)


def _path(members: str) -> str:
    return "$" + "".join(f"['{member}']" for member in members.split("."))
