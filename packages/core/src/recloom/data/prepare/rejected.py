"""Rows that are left out after they were read, with the file, line and text that they have there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ..readers import REJECTED, no_rejections
from ..readers.text import SHOWN, rejections


def rejected_rows(
    rows: pl.DataFrame, files: Sequence[Path], reasons: pl.Series, encoding: str = "auto"
) -> pl.DataFrame:
    """A table of rejected rows.

    Args:
        rows: of a reader's interactions, with `line` and, where there are several files, `file`.
        files: every file read; `file` counts into it, and is 0 where there is no such column.
        reasons: one for each row.
        encoding: of the files.
    """
    places = [] if "file" in rows.columns else [pl.lit(0, pl.UInt16).alias("file")]
    rows = rows.with_columns(*places, reasons.alias("reason"))
    tables = [
        _of_file(part, files[key[0]], encoding) for key, part in rows.group_by("file", maintain_order=True)
    ]
    return pl.concat([no_rejections(), *tables])


def _of_file(rows: pl.DataFrame, file: Path, encoding: str) -> pl.DataFrame:
    if file.suffix != ".parquet":
        return rejections(file, rows["line"], rows["reason"], encoding)
    values = pl.concat_str(
        pl.exclude("line", "file", "reason").cast(pl.String).fill_null("null"), separator=", "
    )
    columns = {"file": pl.lit(file.name), "line": pl.col("line"), "text": values.str.head(SHOWN)}
    return rows.with_columns(**columns).select(pl.col(name).cast(kind) for name, kind in REJECTED.items())
