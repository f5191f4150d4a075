"""A folder of tables read as one set: its interactions, parts of a split joined, with its items and users."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ...errors import DataError
from . import RawTables, prepare_command
from .folder_evidence import KINDS, FolderPlan, folder_plan
from .parts import joined_notes, part_of
from .table_columns import FLAGS, options_given
from .text import table_files

if TYPE_CHECKING:
    from .table import Table

LISTED = 10
"""Files that are named at most."""
ALIKE = 3
"""Notes of single files that differ in numbers and examples alone, of which so many are shown, and the last."""
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*")


def read_folder(folder: Path, reader: Table) -> RawTables:
    """Read a folder as `folder_plan` understands it, and say what was taken as what.

    Raises DataError where several readings are possible, and where parts of a split differ in their columns.
    """
    from .table import read_interactions, read_sides

    plan = folder_plan(folder, reader)
    chosen = copy.copy(reader)
    chosen.tables, chosen.folder, chosen.headers = [], folder, {}
    chosen.user_column = plan.columns.get("user_id", reader.user_column)
    chosen.item_column = plan.columns.get("item_id", reader.item_column)
    found = [read_interactions(path, chosen) for path in plan.tables]
    roles = [roles for _, roles in found]
    _refuse_differences(folder, plan.tables, roles, reader)
    raw = _joined(folder, plan, [table for table, _ in found])
    rows = raw.interactions.height + raw.rejected.height
    keys = dict(roles[0])
    for role, side in plan.sides.items():
        setattr(chosen, f"{KINDS[role]}_path", [side.path])
        keys[role] = side.key
    taken = [
        f"{_listed([path.relative_to(folder).as_posix() for path in plan.tables])} as interactions ({rows:,} rows)"
    ]
    taken += [
        f"{side.path.name} as {KINDS[role]} ({side.rows:,} rows, {side.key} is their key)"
        for role, side in plan.sides.items()
    ]
    raw.notes.insert(0, f"taken from the folder: {', '.join(taken)}")
    raw.notes += [
        f"{column} is taken for {role}: another table has it as its key"
        for role, column in plan.columns.items()
    ]
    read_sides(raw, chosen, keys)
    if plan.unused:
        raw.notes.append(f"left unused: {_listed([f'{name} ({why})' for name, why in plan.unused.items()])}")
    return raw


def unused_note(folder: Path, files: Sequence[Path], options: Sequence[str]) -> list[str]:
    """A note of the tables of a folder that were not read.

    Args:
        files: those that were read.
        options: that the reader takes.
    """
    read = {file.resolve() for file in files}
    left = [path for path in table_files(folder) if path.resolve() not in read]
    if not left:
        return []
    more = (
        ". Titles of items and a map of ids before them go to --items-path" if "items_path" in options else ""
    )
    return [f"left unused: {_listed([path.name for path in left])}{more}"]


def _joined(folder: Path, plan: FolderPlan, tables: Sequence[RawTables]) -> RawTables:
    """One table of the interactions of all, with the column `part` where the files are parts of a split."""
    if len(tables) == 1:
        return tables[0]
    frames: list[pl.DataFrame] = []
    notes: list[tuple[str, str]] = []
    for place, (path, table) in enumerate(zip(plan.tables, tables, strict=True)):
        frame, name = table.interactions, path.relative_to(folder).as_posix()
        if plan.parts and "part" in frame.columns:
            frame = frame.rename({"part": "other_part"})
            notes.append((name, "its column part is kept as other_part, since files say the parts"))
        said = part_of(path)
        part = [pl.lit(said[0]).alias("part")] if plan.parts and said is not None else []
        frames.append(frame.with_columns(pl.lit(place, pl.UInt16).alias("file"), *part))
        notes += [(name, note.removeprefix(f"{path.name}: ")) for note in table.notes]
    kinds = {str(frame.schema) for frame in frames}
    joined = pl.concat(frames, how="vertical_relaxed" if len(kinds) > 1 else "vertical")
    said_once = _once(notes, len(tables))
    if plan.parts:
        said_once += joined_notes(plan.tables)
    else:
        each = [
            f"{path.relative_to(folder).as_posix()} ({table.interactions.height + table.rejected.height:,} rows)"
            for path, table in zip(plan.tables, tables, strict=True)
        ]
        said_once.append(f"joined in this order: {_listed(each)}")
    rejected = pl.concat(
        table.rejected.with_columns(pl.lit(path.relative_to(folder).as_posix()).alias("file"))
        for path, table in zip(plan.tables, tables, strict=True)
    )
    return RawTables(
        joined, list(plan.tables), rejected=rejected, notes=said_once, encoding=tables[0].encoding
    )


def _once(notes: Sequence[tuple[str, str]], files: int) -> list[str]:
    """Notes of files, each with the name of its own; those of all once, of those that differ in numbers a few."""
    times = Counter(text for _, text in notes)
    alike = Counter(_VARYING.sub("", text) for _, text in notes if times[text] != files)
    shown: Counter[str] = Counter()
    found: dict[str, None] = {}
    for name, text in notes:
        shape = _VARYING.sub("", text)
        shown[shape] += times[text] != files
        if times[text] == files:
            found[text] = None
        elif shown[shape] <= ALIKE:
            found[f"{name}: {text}"] = None
        elif shown[shape] == alike[shape]:
            found[f"{name}, and {alike[shape] - ALIKE - 1:,} more files before it: {text}"] = None
    return [*found]


def _refuse_differences(
    folder: Path, paths: Sequence[Path], roles: Sequence[dict[str, str]], reader: Table
) -> None:
    """Raise DataError where one table has times or values and another has not."""
    for role in ("timestamp", "value"):
        have = [path.name for path, one in zip(paths, roles, strict=True) if role in one]
        lack = [path.name for path, one in zip(paths, roles, strict=True) if role not in one]
        if have and lack:
            flag = FLAGS[role]
            option = flag.removeprefix("--").replace("-", "_")
            options = options_given(reader) | {"tables": [path.name for path in paths], option: "none"}
            raise DataError(
                f"{folder}: {', '.join(have)} has a column of {role}s, and {', '.join(lack)} has none. Expected the "
                f"same in each part: name the column with {flag}, or leave it out of all:\n"
                f"  {prepare_command('table', folder, options)}"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED:,} more" if len(names) > LISTED else "")
