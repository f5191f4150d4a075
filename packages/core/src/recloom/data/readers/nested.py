"""Rows of JSON that hold a list of objects, such as the events of a session: what to type for a row of each object."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import prepare_command
from .evidence import is_time
from .jsonlines import first_objects
from .text import JSON
from .values import guess_columns

LOOKED_AT = 1_000
"""Objects of each list of objects, within all rows, whose members are looked at."""
Objects = Sequence[Mapping[str, object]]


def one_row_an_object(path: Path, encoding: str = "auto") -> str:
    """The commands that write a row for each object of a list and read these rows; empty where no column is such.

    Where these objects hold a list of objects again, such as playlists with tracks, the rows are of the innermost.
    """
    rows: Objects = first_objects(path, encoding)
    lists, outer, left, clash = list[str](), list[str](), list[str](), False
    while len(nested := _lists(rows)) == 1:
        ((column, objects),) = nested.items()
        beside = [name for name in _names(rows) if name != column]
        clash |= bool(set(outer) & {column, *beside})
        single = _single(beside, rows)
        left += [name for name in beside if name not in single]
        lists, outer, rows = [*lists, column], [*outer, *single], objects
    if not lists:
        return ""
    members = _names(rows)
    clash |= bool(nested) or bool({*outer, *left} & set(members))
    where = " and each of these ".join(
        [f"{path}: {lists[0]} holds lists of objects", *(f"has such a list in {name}" for name in lists[1:])]
    )
    said = f"{where} with {', '.join(members)[:200]}. Write one row for each of them"
    read, values = _read_call(path), _single(members, rows)
    if read is None or encoding.lower() != "auto" or clash or not outer or not values:
        return f"{said}, with {', '.join(outer)[:200] or 'its user'} beside it."
    made = "".join(f".explode({name!r}).unnest({name!r})" for name in lists)
    made += f".drop({left!r})" if left else ""
    code = (
        f"import polars as pl; a = pl.{read}({str(path)!r}, infer_schema_length=None); "
        f"a{made}.write_parquet('rows.parquet')"
    )
    columns = _columns(outer, values, rows)
    rest = prepare_command("table", Path("rows.parquet"), columns)
    users, items = columns["user_column"], columns["item_column"]
    return f"{said}:\n  python -c {shlex.quote(code)}\nand, if {users} holds users and {items} holds items:\n  {rest}"


def _lists(rows: Objects) -> dict[str, Objects]:
    """Column to the first objects of its lists, for the columns that hold lists of objects."""
    found: dict[str, list[Mapping[str, object]]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
                known = found.setdefault(name, [])
                known += value[: LOOKED_AT - len(known)]
    return dict(found)


def _names(rows: Objects) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _single(names: Sequence[str], rows: Objects) -> list[str]:
    """The columns that hold single values, neither lists nor objects."""
    return [name for name in names if not any(isinstance(row.get(name), list | dict) for row in rows)]


def _read_call(path: Path) -> str | None:
    """The function of polars that reads a file of JSON; None where that takes more than its path."""
    if path.suffix.lower() not in JSON:
        return None
    with path.open("rb") as file:
        return "read_json" if file.read(100).lstrip().startswith(b"[") else "read_ndjson"


def _columns(outer: Sequence[str], members: Sequence[str], objects: Objects) -> dict[str, str]:
    """The options for the columns: by usual names, else the nearest beside the list for users, a member for items.

    Among those without a usual name, one whose name ends as those of ids do goes before others.
    """
    usual = guess_columns([*members, *outer])
    times = [name for name in members if is_time(str(objects[0].get(name, "")))]
    time = usual.get("timestamp", next(iter(times), ""))
    free = [name for name in members if name != time] or members
    found = {
        "user_column": usual.get("user_id") or next(filter(_like_an_id, reversed(outer)), outer[0]),
        "item_column": usual.get("item_id") or next(filter(_like_an_id, free), free[0]),
        "time_column": time,
    }
    return {option: name for option, name in found.items() if name}


def _like_an_id(name: str) -> bool:
    return name.lower().endswith(("id", "uri"))
