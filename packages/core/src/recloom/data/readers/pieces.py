"""Equal tables that are one in several files: `part-0000.csv` and so on, `jan.csv` and `feb.csv`, `day=1/0.parquet`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ...errors import DataError

if TYPE_CHECKING:
    from .looked import Looked

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LONG = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
UNIQUE = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""A universally unique id, as Spark writes in names of files."""
WORDS = re.compile(
    rf"(?P<unique>{UNIQUE})|(?P<number>\d+)|(?<![a-z])(?P<month>{'|'.join((*LONG, *MONTHS))})(?![a-z])"
)
EMPTY = "is empty: expected"
"""What is said of a file without rows."""
FIRST, MOST_FILES = 1_000, 20
"""Rows and files of one table in pieces that are compared, or asked for their ids."""
COPIED = 0.5
"""The share of rows that two files have in common from which on one may be a copy of the other."""


def pieces(files: Sequence[Path], folder: Path) -> list[list[Path]]:
    """Files whose names differ in numbers, months or unique ids alone, two of each set at least, in their order."""
    sets: dict[str, list[Path]] = {}
    for file in files:
        sets.setdefault(_shape(file, folder), []).append(file)
    return [sorted(one, key=lambda file: _order(file, folder)) for one in sets.values() if len(one) > 1]


def copied(samples: Sequence[pl.DataFrame]) -> bool:
    """Whether two tables have many of their first rows in common, so that joining them would repeat rows."""
    rows = [frame.unique() for frame in samples if frame.height]
    return any(
        one.join(other, on=one.columns, how="semi", nulls_equal=True).height
        >= COPIED * min(one.height, other.height)
        for place, one in enumerate(rows)
        for other in rows[place + 1 :]
    )


def joined_pieces(
    folder: Path, alone: Sequence[Looked], looked: Sequence[Looked], unread: dict[str, str]
) -> list[list[Looked]]:
    """Sets of tables of interactions that are pieces of one: by their names, equal columns, and rows of their own.

    Raises DataError where a file of such a name has as many columns and other names, so that it may have no header.
    """
    found, by_path = [], {table.path: table for table in looked}
    free = {table.path for table in alone}
    failed = [folder / name for name, why in unread.items() if EMPTY not in why]
    for files in pieces([*by_path, *(path for path in failed if path not in by_path)], folder):
        tables = [by_path[path] for path in files if path in by_path]
        mine = [table for table in tables if table.path in free]
        if not mine:
            continue
        for path in files:
            other = by_path.get(path)
            if other is None or (not other.roles and len(other.names) == len(mine[0].names)):
                why = f"line 1 is {', '.join(other.names)[:200]}" if other else unread[_name(path, folder)]
                raise DataError(
                    f"{path}: by its name it is a piece of one table with {mine[0].path.name}, whose columns are "
                    f"{', '.join(mine[0].names)[:200]}; here {why}. Write the same header into each, or name in "
                    "--tables the files that are meant."
                )
        equal = len(mine) == len(tables) > 1 and len({table.names for table in mine}) == 1
        if equal and not copied([table.told.head(FIRST) for table in mine[:MOST_FILES]]):
            found.append(mine)
    return found


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _shape(file: Path, folder: Path) -> str:
    """The name of a file without what numbers it; of partitions without their values."""
    plain = re.sub(r"=[^/]*/", "=*/", _name(file, folder).lower())
    return WORDS.sub("*", plain)


def _order(file: Path, folder: Path) -> tuple[list[tuple[int, str]], str]:
    """What files are sorted by: numbers by their size, months by the calendar, the rest by the alphabet."""
    name, key, end = _name(file, folder).lower(), [], 0
    for word in WORDS.finditer(name):
        key.append((0, name[end : word.start()]))
        end = word.end()
        if word["number"]:
            key.append((int(word["number"]), ""))
        elif word["month"]:
            key.append((MONTHS.index(word["month"][:3]), ""))
        else:
            key.append((0, word[0]))
    return [*key, (0, name[end:])], name
