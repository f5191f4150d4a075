"""From the name of a reader and a path to a prepared dataset."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..plugins import collect
from ..schemas import DatasetCard, Source
from .directory import refuse_existing
from .prepare import Prepared, arrange, source_files, write
from .readers import RawTables, Reader, ReadOptions
from .readers.table import choose_columns, column_names


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
    overwrite: bool = False,
) -> tuple[RawTables, Prepared, DatasetCard]:
    """Fetch if asked to, read, check, arrange and write.

    Args:
        reader: name of a reader, or `auto`.
        path, download: exactly one of them: a file or folder, or the name of a known set.

    Raises DataError for an unknown reader, an option that the reader does not understand, or bad data.
    """
    refuse_existing(out, overwrite)
    licence, url = None, None
    if (path is None) == (download is None):
        raise DataError("give either --path RAW or --download NAME (`recloom data list` shows the names)")
    if download is not None:
        from .download import fetch, known_set

        known = known_set(download)
        path, licence, url = fetch(download), known.licence, known.page
    assert path is not None
    if not path.exists():
        raise DataError(f"{path} does not exist. Check --path, or fetch a known set with --download NAME.")
    found = recognise(path) if reader == "auto" else reader_named(reader)
    _refuse_unused(found, options)
    raw = found().read(path, options)
    with ThreadPoolExecutor(1) as pool:
        files = pool.submit(source_files, raw.files)
        data = arrange(raw, min_value=min_value, keep_all_items=keep_all_items, max_rejected=max_rejected)
    chosen: dict[str, Any] = options.given()
    chosen |= {"min_value": min_value} if min_value is not None else {}
    chosen |= {"keep_all_items": True} if keep_all_items else {}
    card = write(
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


def recognise(path: Path) -> type[Reader]:
    """The one reader that recognises a path; `table` and `sequences` only where no more specific one does."""
    general = ("sequences", "table")
    matches = [reader for reader in readers().values() if reader.sniff(path)]
    matches.sort(key=lambda reader: (reader.name in general, reader.name))
    if not matches:
        raise DataError(
            f"{path}: no reader recognises it. {_not_a_table(path)}Name a reader instead of `auto` "
            "(`recloom data list` shows them)."
        )
    specific = [reader for reader in matches if reader.name not in general]
    if len(specific) > 1:
        names = ", ".join(reader.name for reader in specific)
        raise DataError(f"{path}: several readers recognise it ({names}). Name one instead of `auto`.")
    return matches[0]


def _not_a_table(path: Path) -> str:
    """What keeps a file from being read as a table: the most general format."""
    if not path.is_file():
        return ""
    try:
        choose_columns(path, column_names(path, ReadOptions()), ReadOptions())
    except DataError as error:
        return f"As a table: {error} "
    return ""


def _refuse_unused(reader: type[Reader], options: ReadOptions) -> None:
    unused = sorted(set(options.given()) - reader.options)
    if unused:
        flag = "--" + unused[0].replace("_", "-")
        takes = ", ".join("--" + name.replace("_", "-") for name in sorted(reader.options)) or "none of them"
        raise DataError(
            f"the reader {reader.name!r} does not use {flag}. It takes {takes}. Leave {flag} out."
        )
