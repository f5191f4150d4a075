"""Columns of a table: which are taken for users, items, times and values, and what to type where none is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ...errors import DataError
from . import prepare_command
from .delimited import SEPARATORS, guess_separator, header_of
from .evidence import LINES, first_line_is_data, roles_by_value, with_row_names
from .foreign import before_rows, matrix
from .jsonlines import json_keys
from .nested import one_row_an_object
from .objects import with_members
from .orders import likely_columns, no_items, order_column
from .partitions import partition_values
from .quoting import cells_of
from .text import kind_of, opening
from .text_lists import first_texts, list_columns, list_role
from .values import ROLES, guess_columns, untyped

if TYPE_CHECKING:
    from .table import Table

IDS = ("user_id", "item_id")
LISTS = ("item_id_list", "item_list", "item_ids", "items", "history", "sequence")
"""How names of columns of lists end."""
FLAGS = {
    "user_id": "--user-column",
    "item_id": "--item-column",
    "timestamp": "--time-column",
    "value": "--value-column",
}


def column_names(path: Path, reader: Table) -> list[str]:
    """All columns of a file, from its header, its schema, its first objects or `--columns`; then `fixed_columns`."""
    return [*_header(path, reader), *fixed_columns(path, reader)]


def fixed_columns(path: Path, reader: Table) -> dict[str, str | None]:
    """Column to value, where that stands in the names of folders and not in the file itself."""
    values = {} if reader.folder is None else partition_values(path, reader.folder)
    own = _header(path, reader) if values else []
    return {name: value for name, value in values.items() if name not in own}


def _header(path: Path, reader: Table) -> list[str]:
    """The columns that stand in a file itself, looked up once where it is one of many in a folder."""
    if reader.folder is None:
        return _own_names(path, reader)
    if path not in reader.headers:
        reader.headers[path] = _own_names(path, reader)
    return reader.headers[path]


def _own_names(path: Path, reader: Table) -> list[str]:
    """The columns that stand in a file itself."""
    kind = kind_of(path, reader.encoding)
    if kind == "parquet":
        return list(pl.read_parquet_schema(path))
    if kind == "json":
        asked = (reader.user_column, reader.item_column, reader.time_column, reader.value_column)
        return with_members(
            json_keys(path, reader.encoding), [*asked, reader.title_column, *reader.keep_columns]
        )
    separator = reader.separator or guess_separator(path, reader.encoding)
    names = list(header_of(path, separator, reader.quote, reader.encoding))
    if reader.columns:
        if len(guess_columns(names)) > 1:
            raise DataError(f"{path}, line 1 is a header: {', '.join(names)}. Leave --columns out.")
        return reader.columns
    if any(len(row) == len(names) + 1 for row in first_cells(path, separator, reader, 20)[1:2]):
        names = with_row_names(names, first_cells(path, separator, reader)[1:])
    if len(names) != len(set(names)) and not _headerless(path, names, separator, reader):
        raise DataError(
            before_rows(path, opening(path, LINES, reader.encoding))
            or f"{path}, line 1: the header names a column twice: {', '.join(names)}. Rename one."
        )
    return names


def choose_columns(path: Path, names: list[str], reader: Table) -> dict[str, str]:
    """Role to column: what the user named, else what can be guessed. One DataError names all that is wrong."""
    asked = {
        "user_id": reader.user_column, "item_id": reader.item_column,
        "timestamp": reader.time_column, "value": reader.value_column,
    }  # fmt: skip
    named = {
        role: _as_written(names, column)
        for role, column in asked.items()
        if column is not None and column != "none"
    }
    fixed = fixed_columns(path, reader)
    usual = guess_columns([*fixed]) | guess_columns([name for name in names if name not in fixed])
    guessed = {role: column for role, column in usual.items() if column not in named.values()}
    if "item_id" not in guessed and any(list_role(name) == "item_id" for name in names):
        lists = list_columns(names, texts_of(path, names, reader))
        guessed = {role: name for role, name in lists.items() if name not in named.values()} | guessed
    roles = {role: named.get(role, guessed.get(role)) for role in ROLES if asked[role] != "none"}
    wanted = [(FLAGS[role], column) for role, column in named.items()]
    wanted += [("--keep-columns", name) for name in reader.keep_columns]
    absent = [f"{column!r} ({flag})" for flag, column in wanted if column not in names]
    faults = []
    if twice := [column for column in named.values() if list(named.values()).count(column) > 1]:
        flags = " and ".join(FLAGS[role] for role, column in named.items() if column == twice[0])
        faults.append(f"{flags} name one column, {twice[0]!r}. Name a column for each, or `none`.")
    if absent:
        faults.append(f"{path} has no column {', '.join(absent)}. It has {', '.join(names)}.")
    found = {role: column for role, column in roles.items() if column in names}
    if any(roles.get(role) is None for role in IDS):
        faults.append(_no_column(path, names, found, reader))
    if faults:
        raise DataError(" ".join(faults))
    return found


def _as_written(names: list[str], column: str) -> str:
    """A column that may have been named without the type that RecBole writes behind it."""
    return next((name for name in names if column not in names and untyped(name) == column), column)


def unused_lists(names: list[str], used: Sequence[str]) -> list[str]:
    """A note of columns that hold each user's lists of items, by their names, and are not read."""
    plain = {name: untyped(name).lower() for name in names if name not in used}
    left = [name for name, one in plain.items() if one.endswith(LISTS) or one.startswith("history_")]
    if not left:
        return []
    left.sort(key=lambda name: "id" not in plain[name].split("_"))
    return [
        f"warning: {', '.join(left)} may hold lists of a user's items, and is left out. Where it does, read them "
        f"instead: --item-column {shlex.quote(left[0])}"
    ]


def _no_column(path: Path, names: list[str], found: dict[str, str], reader: Table) -> str:
    missing = [role for role in IDS if role not in found]
    kinds = " or ".join(role.replace("_", " ") + "s" for role in missing)
    what = f"{path}: no column of {kinds} recognised among {', '.join(names)[:300]}."
    if kind_of(path, reader.encoding) == "delimited" and not reader.columns:
        better = guess_separator(path)
        if len(names) == 1 and reader.separator and better != reader.separator:
            return f"{what} Found {SEPARATORS[better]} as separator: pass --separator {better!r}."
        separator = reader.separator or better
        other = before_rows(path, opening(path, LINES, reader.encoding))
        if other := other or matrix(path, first_cells(path, separator, reader)):
            return other
        if _headerless(path, names, separator, reader):
            return what + _name_columns(path, separator, reader)
    elif kind_of(path, reader.encoding) == "json" and (rows := one_row_an_object(path, reader.encoding)):
        return rows
    free = [name for name in names if name not in found.values() and name != order_column(names)]
    example = likely_columns(free, missing)
    what += "" if example else no_items(names, missing)
    free = [name for name in free if name not in example.values()]
    others = [role for role in missing if role not in example]
    example |= dict(zip(others, [*free, "NAME", "NAME"], strict=False))
    if_so = " and ".join(f"{column} holds {role.replace('_', ' ')}s" for role, column in example.items())
    more = "" if "timestamp" in found else " --time-column names the times, --value-column ratings."
    return f"{what} If {if_so}:\n  {_command(path, found | example, reader)}\n{more.strip()}".rstrip()


def _command(path: Path, roles: dict[str, str], reader: Table) -> str:
    """The whole command line that reads a file with these columns."""
    known = {
        "user_column": roles["user_id"], "item_column": roles["item_id"],
        "time_column": _valid(reader.time_column, roles), "value_column": _valid(reader.value_column, roles),
    }  # fmt: skip
    return prepare_command("table", path, options_given(reader) | known)


def options_given(reader: Table) -> dict[str, Any]:
    """The options of a reader that are no defaults."""
    given = {
        name: (getattr(reader, name), one.default) for name, one in signature(type(reader)).parameters.items()
    }
    return {name: value if value != default else None for name, (value, default) in given.items()}


def _valid(column: str | None, roles: dict[str, str]) -> str | None:
    return column if column == "none" or column in roles.values() else None


def texts_of(path: Path, names: Sequence[str], reader: Table) -> dict[str, list[str]]:
    """Cells of the first rows of each column of a file, as texts."""
    kind, rows = kind_of(path, reader.encoding), []
    if kind == "delimited":
        separator = reader.separator or guess_separator(path, reader.encoding)
        rows = first_cells(path, separator, reader)[0 if reader.columns else 1 :]
    fixed = fixed_columns(path, reader)
    return first_texts(path, kind, [name for name in names if name not in fixed], rows, reader.encoding)


def first_cells(path: Path, separator: str, reader: Table, count: int = LINES) -> list[list[str]]:
    lines = opening(path, count, reader.encoding)
    return [cells_of(line, separator, reader.quote) for line in lines if line.strip()]


def _headerless(path: Path, names: list[str], separator: str, reader: Table) -> bool:
    return len(names) > 1 and first_line_is_data(names, first_cells(path, separator, reader)[1:])


def _name_columns(path: Path, separator: str, reader: Table) -> str:
    """What to type for a file without a header: its columns named by what they hold."""
    columns = roles_by_value(first_cells(path, separator, reader))
    options = options_given(reader) | {"columns": columns}
    return (
        " Line 1 looks like data, so the header row may be missing: name the columns in order with --columns. By what "
        f"they hold they may be:\n  {prepare_command('table', path, options)}\nSwap the names where the guess is wrong."
    )
