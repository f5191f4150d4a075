"""One table of a file whose columns are already named as wanted, of any common kind."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ...errors import DataError
from .delimited import EXTRA, Delimited, header_of

KINDS = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")


def read_table(path: Path) -> pl.DataFrame:
    """A table of a Parquet, CSV, TSV or JSON lines file, columns of text files as text. Raises DataError."""
    if path.suffix not in KINDS:
        raise DataError(
            f"{path}: expected a file ending in {', '.join(KINDS)}; found {path.suffix or 'none'}"
        )
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path, glob=False)
        if path.suffix in (".csv", ".tsv"):
            return _delimited(path)
        return pl.read_ndjson(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _delimited(path: Path) -> pl.DataFrame:
    separator = "\t" if path.suffix == ".tsv" else ","
    names = header_of(path, separator)
    if len(set(names)) < len(names):
        raise DataError(f"{path}, line 1: the header names a column twice: {', '.join(names)}. Rename one.")
    frame, lossy = Delimited(path, names, separator).read(dict.fromkeys(names, pl.String()))
    wrong = pl.col(EXTRA).is_not_null()
    if lossy:
        wrong |= pl.any_horizontal(pl.col(names).str.contains("\ufffd", literal=True))
    if (bad := frame.filter(wrong)).height:
        raise DataError(
            f"{path}, line {bad['line'][0]:,}: expected {len(names)} fields of UTF-8 text, found more fields or other "
            "bytes. Mend the row, or save the file as UTF-8."
        )
    return frame.select(names)
