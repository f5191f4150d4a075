"""Objects in cells: members are reached by name (`user.id`), MongoDB's wrappers are taken off, others are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ...errors import DataError
from .jsonlines import read_json_lines

FLAGS = {
    "user_id": "--user-column", "item_id": "--item-column", "timestamp": "--time-column", "value": "--value-column",
}  # fmt: skip
SAMPLE = 1_000
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
) -> pl.DataFrame:
    """The frame with values taken out of objects of one member that begins with `$`, as MongoDB writes them.

    Args:
        roles: role to column of the file.
        listed: what was said of lists that were taken apart.

    Raises DataError for other objects, which are no ids, times or values.
    """
    for name in roles:
        for _ in range(DEEP):
            one = _first_object(frame.get_column(name, default=None))
            if one is None:
                break
            key = next(iter(one), "")
            if len(one) != 1 or not (key.startswith("$") and key[1:].isidentifier()):
                raise DataError(f"{path}: {_refusal(name, roles[name], one, listed)}")
            inner = pl.col(name).str.json_path_match(f"$['{key}']")
            frame = frame.with_columns(pl.coalesce(inner, name).alias(name))
            notes.append(f"{name}: the value of {key} in its objects")
        if (one := _first_object(frame.get_column(name, default=None))) is not None:
            raise DataError(f"{path}: {_refusal(name, roles[name], one, listed)}")
    return frame


def _first_object(values: pl.Series | None) -> dict[str, Any] | None:
    """The first object of a column of texts that are mostly objects; None of another."""
    if values is None or values.dtype != pl.String:
        return None
    sample = values.head(SAMPLE).drop_nulls()
    opened = sample.filter(sample.str.starts_with("{"))
    if not len(opened) or 2 * len(opened) < len(sample):
        return None
    try:
        found = json.loads(opened[0])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refusal(name: str, column: str, one: Mapping[str, Any], listed: Sequence[str]) -> str:
    keys = ", ".join(one)[:200] or "no member"
    if listed:
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
