"""CSV, TSV and `::`-separated files: parsed in bulk; single lines are looked at only where a row failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from ...errors import DataError
from .text import chunks, content, first_of_each, holds, opening, record_lines, rejections
from .values import part_rows, row_checks

EXTRA = "__extra"
SEPARATORS = {",": "','", "\t": "a tab", ";": "';'", "|": "'|'", "::": "'::'", " ": "a space"}


@dataclass(frozen=True)
class Delimited:
    """How one file is laid out."""

    path: Path
    names: tuple[str, ...]
    """All columns, in file order."""
    separator: str = ","
    header: bool = True
    quote: str | None = '"'
    encoding: str = "utf-8"

    def read(self, types: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, bool]:
        """Read some columns by name, with `line` (1-based) and `__extra` (fields beyond the last column).

        A cell that is not of its type is null. The second value says whether the file had bytes that
        are not valid in its encoding; they stand as � in the text.
        """
        if len(self.separator) > 1 or self.encoding != "utf-8":
            frame, lossy = self._split_lines(types)
        else:
            frame, lossy = self._parse(types)
        return frame.with_row_index("line", 1 + self.header).with_columns(
            pl.col("line").cast(pl.UInt32)
        ), lossy

    def _parse(self, types: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, bool]:
        schema = {name: types.get(name, pl.String()) for name in self.names} | {EXTRA: pl.String()}

        def attempt(encoding: Literal["utf8", "utf8-lossy"]) -> pl.DataFrame:
            scan = pl.scan_csv(
                content(self.path), has_header=False, skip_lines=int(self.header), schema=schema,
                separator=self.separator, quote_char=self.quote, encoding=encoding, ignore_errors=True,
                truncate_ragged_lines=True, missing_columns="insert", raise_if_empty=False, glob=False,
            )  # fmt: skip
            return scan.select(*types, EXTRA).collect()

        try:
            return attempt("utf8"), False
        except pl.exceptions.ComputeError as error:
            if "utf" in str(error).lower():
                return attempt("utf8-lossy"), True
            if self.quote is None:
                raise DataError(f"{self.path} cannot be read as a table: {error}") from error
            line = self._unclosed_quote()
            raise DataError(
                f"{self.path}, line {line}: a quote is opened and never closed. Close or double it, or pass "
                "--quote none if quotes are ordinary characters in this file."
            ) from error

    def _unclosed_quote(self) -> int:
        return int(record_lines(self.path, self.separator)[-1])

    def _split_lines(self, types: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, bool]:
        data = b"".join(chunks(self.path))
        text = data.decode(self.encoding, "replace").encode()
        lines = pl.read_lines(text, name="text").slice(int(self.header))
        cells = pl.col("text").str.split_exact(self.separator, len(self.names))
        parts = lines.select(cells.struct.rename_fields([*self.names, EXTRA])).unnest("text")
        wanted = [pl.col(n).replace("", None).cast(kind, strict=False) for n, kind in types.items()]
        return parts.select(*wanted, EXTRA), self.encoding == "utf-8" and text != data

    def lines_of(self, frame: pl.DataFrame) -> pl.Series:
        """The true lines of rows: they differ from row numbers where a quoted field spans lines."""
        starts = pl.Series(record_lines(self.path, self.separator))
        places = frame["line"].cast(pl.Int64) - 1
        return starts.gather(places.clip(0, len(starts) - 1))


def valid_rows(
    frame: pl.DataFrame, layout: Delimited, lossy: bool, ids: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part a frame from `Delimited.read` into its valid rows and a table of rejected ones."""
    quoted = layout.quote is not None and holds(layout.path, b'"')
    beyond = (pl.col(EXTRA).is_not_null(), f"more than {len(layout.names)} fields")
    checks = [beyond, *row_checks(frame.schema, ids, lossy=lossy, quoted=quoted)]
    good, failed = part_rows(frame, checks)
    lines = layout.lines_of(failed) if failed.height and quoted else failed["line"]
    table = rejections(layout.path, lines, failed["reason"], layout.encoding)
    return good.drop(EXTRA), _count_fields(table, layout)


def keyed_rows(layout: Delimited, key: str, names: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Text columns of a file with one row per id, and its rejected rows: broken ones and repeated ids."""
    frame, lossy = layout.read(dict.fromkeys([key, *names], pl.String()))
    good, bad = valid_rows(frame, layout, lossy, (key,))
    table, again = first_of_each(good, key, layout.path, layout.encoding)
    return table.drop("line"), pl.concat([bad, again])


def _count_fields(table: pl.DataFrame, layout: Delimited) -> pl.DataFrame:
    """Say `3 fields instead of 4` where a short row is the reason that its last cells are empty."""
    fields = pl.col("text").str.count_matches(layout.separator, literal=True) + 1
    short = (fields < len(layout.names)) & ~pl.col("text").str.contains('"', literal=True)
    short &= (pl.col("text").str.len_chars() < 200) & (pl.col("reason") != "empty line")
    counted = pl.format(f"{{}} fields instead of {len(layout.names)}", fields)
    return table.with_columns(pl.when(short).then(counted).otherwise("reason").alias("reason"))


def header_of(path: Path, separator: str) -> tuple[str, ...]:
    """The cells of the first line, unquoted."""
    return tuple(cell.strip().strip('"') for cell in opening(path, 1)[0].split(separator))


def guess_separator(path: Path) -> str:
    """The separator of line 1 that occurs in most of the first lines, and equally often; `,` in doubt."""
    lines = [line for line in opening(path, 20) if line.strip()]

    def steady(mark: str) -> int:
        counts = [line.count(mark) for line in lines]
        return counts.count(counts[0]) if counts[0] else 0

    return max((",", "\t", "::", ";", "|", " "), key=steady)
