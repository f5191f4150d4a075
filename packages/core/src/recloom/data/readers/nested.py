"""Rows of JSON that hold a list of objects, such as the events of a session: what to type for a row of each object."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from . import prepare_command
from .evidence import is_time
from .jsonlines import first_objects
from .text import JSON
from .values import guess_columns


def one_row_an_object(path: Path, encoding: str = "auto") -> str:
    """The commands that write a row for each object of a list and read these rows; empty where no column is such."""
    some = first_objects(path, encoding)
    nested = {name: found for one in some for name, value in one.items() if (found := _objects(value))}
    if len(nested) != 1:
        return ""
    ((column, objects),) = nested.items()
    members = list(dict.fromkeys(member for one in objects for member in one))
    outer = [name for name in dict.fromkeys(name for one in some for name in one) if name != column]
    said = f"{path}: {column} holds lists of objects with {', '.join(members)[:200]}. Write one row for each of them"
    read = _read_call(path)
    if read is None or encoding.lower() != "auto" or not outer or set(outer) & set(members):
        return f"{said}, with {', '.join(outer)[:200] or 'its user'} beside it."
    code = (
        f"import polars as pl; a = pl.{read}({str(path)!r}, infer_schema_length=None); "
        f"a.explode({column!r}).unnest({column!r}).write_parquet('rows.parquet')"
    )
    columns = _columns(outer, members, objects)
    rest = prepare_command("table", Path("rows.parquet"), columns)
    users, items = columns["user_column"], columns["item_column"]
    return f"{said}:\n  python -c {shlex.quote(code)}\nand, if {users} holds users and {items} holds items:\n  {rest}"


def _objects(value: object) -> list[dict[str, object]]:
    """The objects of a list of objects; none of anything else."""
    whole = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    return value if whole else []  # type: ignore[return-value]


def _read_call(path: Path) -> str | None:
    """The function of polars that reads a file of JSON; None where that takes more than its path."""
    if path.suffix.lower() not in JSON:
        return None
    with path.open("rb") as file:
        return "read_json" if file.read(100).lstrip().startswith(b"[") else "read_ndjson"


def _columns(
    outer: Sequence[str], members: Sequence[str], objects: Sequence[dict[str, object]]
) -> dict[str, str]:
    """The options for the columns: by name, else the first beside the list for users, the first member for items."""
    usual = guess_columns([*members, *outer])
    times = [name for name in members if is_time(str(objects[0].get(name, "")))]
    time = usual.get("timestamp", next(iter(times), ""))
    free = [name for name in members if name != time]
    found = {
        "user_column": usual.get("user_id", outer[0]),
        "item_column": usual.get("item_id", free[0] if free else members[0]),
        "time_column": time,
    }
    return {option: name for option, name in found.items() if name}
