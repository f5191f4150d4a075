"""Columns that stand in the names of folders, such as `day=2024-01-01/0.parquet`, as Hive and Spark divide a table."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from ...errors import DataError
from ...io import REPLACEABLE
from .evidence import is_time
from .text import table_files

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What stands for no value in the name of a folder."""


def is_raw(folder: Path) -> bool:
    """Whether it is a folder, and no dataset or split that was written here."""
    return folder.is_dir() and not any((folder / name).is_file() for name in REPLACEABLE)


def partition_files(folder: Path, above: Collection[Path] = ()) -> list[Path]:
    """The tables in folders named `column=value`, at any depth. Raises DataError for a link to a folder above it."""
    above = [*above, folder.resolve()]
    found: list[Path] = []
    for inside in sorted(path for path in folder.iterdir() if "=" in path.name and is_raw(path)):
        if inside.resolve() in above:
            raise DataError(f"{inside} is a link to a folder that it lies in. Remove it.")
        found += table_files(inside) + partition_files(inside, above)
    return found


def partition_values(path: Path, folder: Path) -> dict[str, str | None]:
    """Column to value, by the names of the folders between `folder` and a file; None where they say no value."""
    parts = (part.partition("=") for part in path.relative_to(folder).parent.parts if "=" in part)
    return {unquote(name): None if value in ("", NO_VALUE) else unquote(value) for name, _, value in parts}


def with_partitions(frame: pl.DataFrame, values: Mapping[str, str | None]) -> pl.DataFrame:
    """The frame with a column of text for each value, which is the same in all rows."""
    return frame.with_columns(pl.lit(value, pl.String).alias(name) for name, value in values.items())


def partition_notes(values: Mapping[str, str | None], used: Collection[str], *, timed: bool) -> list[str]:
    """What is said of columns by the names of folders.

    Args:
        values: of one file.
        used: those that are users, items, times or values.
        timed: whether times are read, or not wanted.
    """
    kept = [name for name in values if name not in used]
    notes = [
        f"{', '.join(values)}: by the names of folders" + (", kept beside each interaction" * bool(kept))
    ]
    times = [name for name in kept if is_time(values[name] or "")]
    if times and not timed:
        notes.append(
            f"warning: {times[0]}, by the names of folders, looks like times and is not taken for them. Where it is "
            f"when a row happened, name it: --time-column {shlex.quote(times[0])}"
        )
    return notes if values else []
