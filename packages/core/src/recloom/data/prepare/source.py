"""From the name of a reader and a path to a prepared dataset."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...io import refuse_existing, unwritable
from ...schemas import DatasetCard, Source
from ..card import Ties
from ..readers import RawTables, Reader, column_list, prepare_command
from ..readers.evidence import LINES, roles_by_value
from ..readers.folder import unused_note
from ..readers.folder_evidence import NoInteractions, folder_plan
from ..readers.parts import SPLIT_ANEW
from ..readers.sequences import sequence_files, sequence_shape
from ..readers.table import Table
from ..readers.table_columns import column_names
from ..readers.text import opening, table_files
from .dataset import Prepared, arrange, source_files, write_dataset
from .own_split import kept_note, part_column, source_parts
from .reader_options import given, make_reader, reader_named, readers, recorded, taken_by

GENERAL = ("sequences", "table")
FALLBACK = "table"
"""The most general format: a file is one where options are given that only its reader takes."""
LOOKED_AT, LISTED = 50, 5
"""Files of a folder that are tried, and commands that are shown, where the folder is no known format."""


def prepare_source(
    reader: str,
    out: Path,
    path: Path | None = None,
    download: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    min_value: float | None = None,
    missing_value: list[float] | None = None,
    keep_all_items: bool = False,
    max_rejected: float = 0.01,
    event_column: str | None = None,
    event_cuts: list[float] | None = None,
    context_columns: list[str] | None = None,
    keep_split: bool = False,
    ties: Ties = "auto",
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[RawTables, Prepared, DatasetCard]:
    """Fetch if asked to, read, check, arrange and write.

    Args:
        reader: name of a reader, `auto`, or instead of `path` the file or folder, whose format is then recognised.
        path, download: exactly one of them: a file or folder, or the name of a known set.
        options: arguments of the reader's constructor, such as `{"separator": ";"}`.
        min_value, missing_value, keep_all_items, max_rejected, event_column, event_cuts, context_columns, ties,
            seed: as for `arrange`.
        keep_split: keep the split of the source, as files or a column of it say, as the dataset's own.

    Raises DataError for an unknown reader, an option that the reader does not understand, or bad data.
    """
    refuse_pipe(path if path is not None else Path(reader))
    refuse_existing(out, overwrite)
    if reason := unwritable(out.parent):
        raise DataError(f"--out {out}: its folder cannot be written to ({reason}); choose another --out.")
    options = options or {}
    licence, url = None, None
    if path is None and download is None and reader != "auto" and reader not in readers():
        reader, path = "auto", _path_named(reader)
    if (path is None) == (download is None):
        raise DataError("give either --path RAW or --download NAME (`recloom data list` shows the names)")
    if download is not None:
        from .public_datasets import fetch, public_dataset

        known = public_dataset(download)
        path, licence, url = fetch(download), known.licence, known.page
    assert path is not None
    if not path.exists():
        raise DataError(f"{path} does not exist. Check --path, or fetch a known set with --download NAME.")
    found = recognise(path, options) if reader == "auto" else reader_named(reader)
    started = time.time_ns()
    raw = read_raw(found, path, _keeping_parts(found, path, options) if keep_split else options)
    with ThreadPoolExecutor(1) as pool:
        files = pool.submit(source_files, raw.files)
        data = arrange(
            raw, min_value=min_value, missing_value=missing_value or (), keep_all_items=keep_all_items,
            max_rejected=max_rejected, event_column=event_column, event_cuts=event_cuts,
            context_columns=context_columns or (), ties=ties, seed=seed,
        )  # fmt: skip
        read = files.result()
    _refuse_changed(raw.files, started)
    parts = source_parts(data.interactions) if keep_split else None
    if parts is not None:
        raw.notes = [*(note for note in raw.notes if note != SPLIT_ANEW), kept_note(parts)]
    chosen = recorded(found, options)
    own = {
        "min_value": min_value, "missing_value": missing_value, "keep_all_items": keep_all_items,
        "event_column": event_column, "event_cuts": event_cuts, "context_columns": context_columns,
        "keep_split": keep_split,
        "ties": None if ties == "auto" else ties, "seed": seed or None,
    }  # fmt: skip
    chosen |= {name: value for name, value in own.items() if value not in (None, False, [])}
    card = write_dataset(
        data, out, name=name or out.name, licence=licence or found.licence, overwrite=overwrite,
        parts=parts,
        source=Source(reader=found.name, files=read, url=url or found.url, options=chosen),
    )  # fmt: skip
    return raw, data, card


def read_raw(reader: type[Reader], path: Path, options: Mapping[str, Any]) -> RawTables:
    """What a reader finds in a path, with a note of the tables of a folder that it does not read."""
    raw = make_reader(reader, options).read(path)
    if path.is_dir() and reader is not Table:
        raw.notes += unused_note(path, raw.files, list(taken_by(reader)))
    return raw


def _refuse_changed(files: Sequence[Path], started: int) -> None:
    """Raise DataError for a file that was written or put there between a time, in nanoseconds, and now."""
    for file in files:
        stat = file.stat()
        if any(started <= changed <= time.time_ns() for changed in (stat.st_mtime_ns, stat.st_ctime_ns)):
            raise DataError(
                f"{file} was changed while it was read, so what was read may be neither the old nor the new. Run this "
                "again once it is complete."
            )


def refuse_pipe(path: Path) -> None:
    """Raise DataError for what can be read only once, from its beginning."""
    if str(path) == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
        name = "- (standard input)" if str(path) == "-" else path
        raise DataError(
            f"{name} is a pipe or device, which can be read only once; a file is read several times to recognise its "
            "format. Write it into a file first, such as `PROGRAM > log.csv`, and give that file's name."
        )


def _path_named(word: str) -> Path:
    """The path that stands where a reader may be named. Raises DataError where there is no such file or folder."""
    path = Path(word)
    if not path.exists():
        raise DataError(
            f"{word!r} is neither a file or folder nor a reader ({', '.join(readers())}, or auto). Check the path."
        )
    return path


def _keeping_parts(reader: type[Reader], path: Path, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the column of a table that says the part of each row among those that are kept."""
    if reader is not Table:
        return options
    table = Table(**given(options))
    if path.is_dir():
        plan = folder_plan(path, table)
        if plan.parts:  # the files say it
            return options
        path = plan.tables[0]
    column = part_column(column_names(path, table))
    kept = column_list(options.get("keep_columns"))
    return {**options, "keep_columns": [*kept, column]} if column and column not in kept else options


def recognise(path: Path, options: Mapping[str, Any] | None = None) -> type[Reader]:
    """The one reader that recognises a path; `table` and `sequences` only where no more specific one does.

    Where `options` are given that only tables have, such as names of columns, the path is a table; and so is one that
    no reader recognises without the encoding that is given.
    """
    options = given(options or {})
    others = {name for reader in readers().values() if reader.name != FALLBACK for name in taken_by(reader)}
    of_tables = [name for name in options if name in taken_by(reader_named(FALLBACK)) and name not in others]
    if of_tables and path.is_file():
        return reader_named(FALLBACK)
    if of_tables and path.is_dir():
        return _folder_of_tables(path, options)
    matches = _matches(path)
    if not matches and path.is_file() and "encoding" in options:
        return reader_named(FALLBACK)
    if not matches and (question := _two_readings(path)):
        raise DataError(question)
    if not matches and path.is_file():
        raise DataError(f"{path}: no reader recognises it.{_not_a_table(path, options)}")
    if not matches:
        return _folder_of_tables(path, options)
    specific = [reader for reader in matches if reader.name not in GENERAL]
    if not specific and len(matches) > 1 and path.is_dir():
        asked = "".join(f"\n  {prepare_command(reader.name, path, options)}" for reader in matches)
        raise DataError(
            f"{path}: two readings are possible, as sequences and as tables. Name the one meant:{asked}"
        )
    if len(specific) > 1:
        names = ", ".join(reader.name for reader in specific)
        raise DataError(f"{path}: several readers recognise it ({names}). Name one instead of `auto`.")
    return matches[0]


def _matches(path: Path) -> list[type[Reader]]:
    """The readers that recognise a path, the general ones last."""
    found = [reader for reader in readers().values() if reader.sniff(path)]
    return sorted(found, key=lambda reader: (reader.name in GENERAL, reader.name))


def _folder_of_tables(path: Path, options: Mapping[str, Any]) -> type[Reader]:
    """The reader of tables, where a folder holds some of interactions. Raises DataError with what else can be read."""
    try:
        folder_plan(path, Table(**given(options)))
    except NoInteractions as error:
        raise DataError(
            f"{path}: no reader recognises this folder as a whole.{_readable(path, options)}"
        ) from error
    return reader_named(FALLBACK)


def _two_readings(path: Path) -> str:
    """The question to ask where lines of words may be sequences or a table; empty where they may not."""
    shape = sequence_shape(path)
    if shape.kind != "unclear":
        return ""
    file = sequence_files(path)[0]
    lines = opening(file, LINES)
    columns = roles_by_value([line.split() for line in lines if line.strip()])
    holds = "a user and an item" if shape.layout == "pairs" else "one user's items in order"
    readings: list[tuple[str, str, dict[str, Any]]]
    readings = [(f"If each line is {holds}", "sequences", {"layout": shape.layout})]
    if shape.layout == "items":
        readings.append(("If the first word of a line is its user", "sequences", {"layout": "users"}))
    else:
        readings.append(("If the words of a line are columns", "table", {"columns": columns}))
    asked = "".join(
        f"\n{when}:\n  {prepare_command(name, file if name == 'table' else path, options)}"
        for when, name, options in readings
    )
    return f"{path}: two readings are possible: {shape.why}.{asked}"


def _not_a_table(path: Path, options: Mapping[str, Any]) -> str:
    """What keeps a file from being read as a table: the most general format."""
    try:
        make_reader(reader_named(FALLBACK), options).read(path)
    except DataError as error:
        return f" As a table: {error}"
    return " Name a reader instead of `auto` (`recloom data list` shows them)."


def _readable(folder: Path, options: Mapping[str, Any]) -> str:
    """What in a folder a reader recognises, the largest first, with the commands that read it."""
    inside = sorted(folder.iterdir(), key=lambda path: (path.is_dir(), -path.stat().st_size, path.name))
    found = [(path, matches[0].name) for path in inside[:LOOKED_AT] if (matches := _matches(path))]
    if not found:
        files = sorted(table_files(folder), key=lambda path: -path.stat().st_size)
        said = [_not_a_table(path, options) for path in files[:LISTED]]
        said.sort(key=lambda text: "--columns" not in text)  # a file without a header is the likelier one
        return (
            " Nor any file in it. Name a file in --path and a reader (`recloom data list` shows them)."
            f"{said[0] if said else ''}"
        )
    commands = [f"\n  {prepare_command(reader, path, options)}" for path, reader in found[:LISTED]]
    side = "Files with titles, and maps of ids before them, go to --items-path."
    return f" These can be read:{''.join(commands)}\n{side}"
