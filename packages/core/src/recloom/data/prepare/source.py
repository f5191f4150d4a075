"""From the name of a reader and a path to a prepared dataset."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...io import refuse_existing
from ...plugins import collect
from ...schemas import DatasetCard, Source
from ..readers import RawTables, Reader, ReadOptions
from ..readers.table import choose_columns, column_names
from .dataset import Prepared, arrange, source_files, write_dataset

COLUMN_OPTIONS = frozenset(
    {
        "separator",
        "quote",
        "columns",
        "user_column",
        "item_column",
        "time_column",
        "value_column",
        "time_format",
    }
)
"""Options that only a table has."""
GENERAL = ("sequences", "table")
LOOKED_AT, LISTED = 50, 5
"""Files of a folder that are tried, and commands that are shown, where the folder is no known format."""


def prepare_source(
    reader: str,
    out: Path,
    path: Path | None,
    download: str | None,
    options: ReadOptions,
    *,
    name: str | None = None,
    min_value: float | None = None,
    keep_all_items: bool = False,
    max_rejected: float = 0.01,
    event_column: str | None = None,
    event_cuts: list[float] | None = None,
    context_columns: list[str] | None = None,
    overwrite: bool = False,
) -> tuple[RawTables, Prepared, DatasetCard]:
    """Fetch if asked to, read, check, arrange and write.

    Args:
        reader: name of a reader, or `auto`.
        path, download: exactly one of them: a file or folder, or the name of a known set.
        min_value, keep_all_items, max_rejected, event_column, event_cuts, context_columns: as for `arrange`.

    Raises DataError for an unknown reader, an option that the reader does not understand, or bad data.
    """
    refuse_existing(out, overwrite)
    licence, url = None, None
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
    refuse_unused(found, options)
    raw = found().read(path, options)
    with ThreadPoolExecutor(1) as pool:
        files = pool.submit(source_files, raw.files)
        data = arrange(
            raw, min_value=min_value, keep_all_items=keep_all_items, max_rejected=max_rejected,
            event_column=event_column, event_cuts=event_cuts, context_columns=context_columns or (),
        )  # fmt: skip
    chosen: dict[str, Any] = options.given()
    own = {
        "min_value": min_value, "keep_all_items": keep_all_items, "event_column": event_column,
        "event_cuts": event_cuts, "context_columns": context_columns,
    }  # fmt: skip
    chosen |= {name: value for name, value in own.items() if value not in (None, False, [])}
    card = write_dataset(
        data, out, name=name or out.name, licence=licence or found.licence, overwrite=overwrite,
        source=Source(reader=found.name, files=files.result(), url=url or found.url, options=chosen),
    )  # fmt: skip
    return raw, data, card


def readers() -> dict[str, type[Reader]]:
    """Every installed reader by name."""
    return collect("register_readers")


def reader_named(name: str) -> type[Reader]:
    """The reader of that name. Raises DataError that lists the names."""
    known = readers()
    if name not in known:
        raise DataError(f"no reader is called {name!r}. Installed: {', '.join(known)}, or `auto`.")
    return known[name]


def recognise(path: Path, options: ReadOptions | None = None) -> type[Reader]:
    """The one reader that recognises a path; `table` and `sequences` only where no more specific one does.

    Where `options` name columns, the path is a table.
    """
    options = options or ReadOptions()
    of_tables = [name for name in options.given() if name in COLUMN_OPTIONS]
    if of_tables and path.is_file():
        return reader_named("table")
    matches = _matches(path)
    if not matches and path.is_file():
        raise DataError(f"{path}: no reader recognises it.{_not_a_table(path, options)}")
    if not matches or of_tables:
        raise DataError(f"{path}: no reader recognises this folder as a whole.{_readable(path, options)}")
    specific = [reader for reader in matches if reader.name not in GENERAL]
    if len(specific) > 1:
        names = ", ".join(reader.name for reader in specific)
        raise DataError(f"{path}: several readers recognise it ({names}). Name one instead of `auto`.")
    return matches[0]


def _matches(path: Path) -> list[type[Reader]]:
    """The readers that recognise a path, the general ones last."""
    found = [reader for reader in readers().values() if reader.sniff(path)]
    return sorted(found, key=lambda reader: (reader.name in GENERAL, reader.name))


def _not_a_table(path: Path, options: ReadOptions) -> str:
    """What keeps a file from being read as a table: the most general format."""
    try:
        choose_columns(path, column_names(path, options), options)
    except DataError as error:
        return f" As a table: {error}"
    return " Name a reader instead of `auto` (`recloom data list` shows them)."


def _readable(folder: Path, options: ReadOptions) -> str:
    """What in a folder a reader recognises, the largest first, with the commands that read it."""
    inside = sorted(folder.iterdir(), key=lambda path: (path.is_dir(), -path.stat().st_size, path.name))
    found = [(path, matches[0].name) for path in inside[:LOOKED_AT] if (matches := _matches(path))]
    if not found:
        return " Nor any file in it. Name a file in --path and a reader (`recloom data list` shows them)."
    typed = " ".join(["", options.words()]).rstrip()
    commands = [
        f"\n  recloom data prepare {reader} --path {shlex.quote(str(path))}{typed} --out DIR"
        for path, reader in found[:LISTED]
    ]
    side = "Files with titles, and maps of ids before them, go to --items-path."
    return f" These can be read:{''.join(commands)}\n{side}"


def refuse_unused(reader: type[Reader], options: ReadOptions) -> None:
    """Raise DataError that names an option which the reader does not understand."""
    unused = sorted(set(options.given()) - reader.options)
    if unused:
        flag = "--" + unused[0].replace("_", "-")
        takes = ", ".join("--" + name.replace("_", "-") for name in sorted(reader.options)) or "none of them"
        raise DataError(
            f"the reader {reader.name!r} does not use {flag}. It takes {takes}. Leave {flag} out."
        )
