"""Lists that are text in a cell, such as `12 7 19`: recognised by evidence, or asked about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ...errors import DataError
from . import prepare_command
from .delimited import SEPARATORS
from .evidence import is_number, is_time
from .jsonlines import first_objects
from .values import ROLES, plain_name

if TYPE_CHECKING:
    from .table import Table

MARKS = (" ", ",", ";", "|")
TOKEN = re.compile(r"[\w.:+@/-]+")
"""One id, number or time of a list."""
ENDS = ("_list", "_seq", "_sequence", "_history")
WHOLE = ("history", "sequence", "seq", "interaction", "basket")
"""Names, in the singular, of columns that hold a user's items."""
FEW = 0.05
"""The share of cells with several words from which on they are asked about; below it they are noted."""


def list_role(name: str) -> str | None:
    """The role that a column of lists has by its name, such as `item_id` of `movie_ids`; None where it has none."""
    plain = plain_name(name)
    for end in ENDS:
        plain = plain.removesuffix(end)
    if plain == plain_name(name) and not plain.endswith("s") and plain not in WHOLE:
        return None
    single = {plain, plain.removesuffix("s"), plain.removesuffix("es")}
    if single & set(WHOLE):
        return "item_id"
    return next((role for role in ("item_id", "timestamp", "value") if single & set(ROLES[role])), None)


def list_columns(names: Sequence[str], values: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Role to column, where names say that columns are lists of items, times or values, and cells hold such.

    Args:
        values: some cells of each column.
    """
    found: dict[str, str] = {}
    for name in names:
        role, cells = list_role(name), [cell for cell in values.get(name, []) if cell.strip()]
        listed = bool(cells) and (all(cell.startswith("[") for cell in cells) or mark_of(cells) is not None)
        if role is not None and listed:
            found.setdefault(role, name)
    return found if "item_id" in found else {}


def mark_of(cells: Sequence[str]) -> str | None:
    """What separates the words of cells, where some hold several, and all are ids, numbers or times."""
    for mark in MARKS:
        rows = [_words(cell, mark) for cell in cells]
        if any(len(row) > 1 for row in rows) and all(TOKEN.fullmatch(word) for row in rows for word in row):
            return mark
    return None


def list_marks(
    path: Path, roles: Mapping[str, str], values: Mapping[str, Sequence[str]], reader: Table
) -> tuple[dict[str, str], list[str]]:
    """What separates lists in cells of each role that has some, and what should be noted.

    Raises DataError, with a command for each reading, where cells may be lists of items or ids with spaces in them.
    """
    from .table_columns import options_given

    column = roles.get("item_id", "")
    rows = range(len(values.get(column, [])))
    filled = [row for row in rows if values[column][row].strip()]
    items = [values[column][row] for row in filled]
    mark = reader.list_separator or mark_of(items)
    if mark in (None, "none") or not items or all(cell.startswith("[") for cell in items):
        return {}, []
    assert mark is not None
    lists = [_words(cell, mark) for cell in items]
    beside = {
        role: found
        for role in ("timestamp", "value")
        if role in roles and len(values.get(roles[role], [])) == len(rows)
        and (found := _mark_beside([values[roles[role]][row] for row in filled], lists)) is not None
    }  # fmt: skip
    marks = {"item_id": mark, **beside}
    if reader.list_separator:
        return marks, []
    several = sum(len(one) > 1 for one in lists)
    numbered = all(any(letter.isdigit() for letter in word) for one in lists for word in one)
    lengths = len({len(one) for one in lists}) > 1
    agree = [
        role
        for role, found in beside.items()
        if lengths and _agreeing(values, roles[role], filled, found, lists) == 1
    ]
    if agree or (numbered and list_role(column) == "item_id"):
        return marks, []
    example = next(cell for cell, one in zip(items, lists, strict=True) if len(one) > 1)
    asked = "".join(
        f"\n{when}:\n  {prepare_command('table', path, options_given(reader) | {'list_separator': typed})}"
        for when, typed in (("If they are lists", mark), ("If each is one id", "none"))
    )
    kind = SEPARATORS.get(mark, mark)
    if list_role(column) == "item_id" or (numbered and several > FEW * len(items)):
        raise DataError(
            f"{path}: cells of {column!r} such as {example[:60]!r} may be lists of items, separated by {kind}, or "
            f"single ids that hold {kind}.{asked}"
        )
    return {}, [
        f"ids of {column} such as {example[:60]!r} are read as single ids; --list-separator says that they are lists"
    ] if numbered or 2 * several > len(items) else []


def first_texts(
    path: Path, kind: str, names: Sequence[str], rows: Sequence[Sequence[str]], encoding: str
) -> dict[str, list[str]]:
    """Cells of the first rows of each column, as texts; lists as `[...]`, and cells that are empty as such.

    Args:
        kind: of the file: `parquet`, `json` or `delimited`.
        rows: cells of the first rows of delimited text.
    """
    if kind == "delimited":
        whole = [row for row in rows if len(row) == len(names)]
        return {name: [row[place] for row in whole] for place, name in enumerate(names)}
    if kind == "json":
        some = first_objects(path, encoding)
        return {name: ["" if one.get(name) is None else str(one[name]) for one in some] for name in names}
    table = pl.scan_parquet(path, glob=False).head(1000).collect()
    return {
        one.name: ["[...]"] * len(one)
        if one.dtype.is_nested()
        else one.cast(pl.String, strict=False).fill_null("").to_list()
        for one in table
        if one.dtype != pl.Binary
    }


def split_lists(frame: pl.DataFrame, marks: Mapping[str, str]) -> pl.DataFrame:
    """The frame with some columns of text as lists of their words.

    Between two marks, as in `12,,19`, stands nothing: a null, so that lists side by side stay side by side, and an item
    that is missing is a row to reject. Marks at the end, and several spaces, mean nothing.
    """
    return frame.with_columns(_split(name, mark) for name, mark in marks.items())


def _split(name: str, mark: str) -> pl.Expr:
    text, word = pl.col(name).cast(pl.String).str.strip_chars(), pl.element().str.strip_chars()
    if mark == " ":
        return text.str.split(mark).list.eval(word.filter(word != ""))
    ended = text.str.strip_chars_end(f"{mark} ")
    return ended.str.split(mark).list.eval(pl.when(word != "").then(word))


def _words(cell: str, mark: str) -> list[str]:
    return [word for part in cell.split(mark) if (word := part.strip())]


def _mark_beside(cells: Sequence[str], lists: Sequence[Sequence[str]]) -> str | None:
    """What separates the times or values beside lists of items; None where each row has one."""
    mark = mark_of([cell for cell in cells if cell.strip()])
    if mark is None:
        return None
    rows = [_words(cell, mark) for cell in cells]
    if not all(is_number(word) or is_time(word) for row in rows for word in row):
        return None
    same = sum(len(row) == len(one) for row, one in zip(rows, lists, strict=True))
    several = sum(len(row) > 1 for row in rows)
    return mark if same >= 0.9 * len(rows) or 2 * several >= len(rows) else None


def _agreeing(
    values: Mapping[str, Sequence[str]],
    column: str,
    rows: Sequence[int],
    mark: str,
    lists: Sequence[Sequence[str]],
) -> float:
    """The share of rows whose list has as many words as that of the items."""
    found = [len(_words(values[column][row], mark)) for row in rows]
    return sum(count == len(one) for count, one in zip(found, lists, strict=True)) / len(found)
