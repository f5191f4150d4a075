"""One table of a file whose columns are already named as wanted, of any common kind."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ...errors import DataError

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
            return pl.read_csv(
                path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema=False, glob=False
            )
        return pl.read_ndjson(path, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
