"""CSV, TSV and `::`-separated files: parsed in bulk; single lines are looked at only where a row failed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from ...errors import DataError
from ..card import Quote
from .quoting import Quoting, Records, header_cells
from .text import (
    content,
    encoding_notes,
    first_of_each,
    holds,
    opening,
    rejections,
    separator_line,
    whole_utf8,
)
from .values import Check, part_rows, row_checks

EXTRA = "__extra"
OWN = ("line", "file", "reason", EXTRA)
"""Names that readers give to columns of their own."""
SEPARATORS = {
    ",": "','",
    "\t": "a tab",
    ";": "';'",
    "|": "'|'",
    "::": "'::'",
    " ": "a space",
    "\x01": "Ctrl-A",
}
TYPED = {
    "\\t": "\t", "tab": "\t", "\\x01": "\x01", "^a": "\x01", "soh": "\x01", "\\x1f": "\x1f", "comma": ",",
    "semicolon": ";", "pipe": "|", "space": " ",
}  # fmt: skip
"""How separators are typed that are hard to type."""


@dataclass(frozen=True)
class Delimited:
    """How one file is laid out."""

    path: Path
    names: tuple[str, ...]
    """All columns, in file order, none twice."""
    separator: str = ","
    header: bool = True
    quote: Quote | None = "auto"
    """What quotes mean; `auto`: they enclose fields, doubled or escaped inside, unless the lines show otherwise."""
    encoding: str = "auto"
    notes: list[str] = field(default_factory=list, compare=False)
    """What `read` had to assume is added here."""

    def read(self, types: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, bool]:
        """Read some columns by name, with `line` (1-based) and `__extra` (fields beyond the last column).

        A cell that is not of its type is null. Spaces around cells that are not quoted are removed. The second
        value says whether the file had bytes that are not valid in its encoding; they stand as � in the text.
        """
        data, lossy = content(self.path, self.encoding), False
        try:
            frame, records = self._parse(data, types)
            self._note(encoding_notes(self.path, self.encoding))
        except pl.exceptions.ComputeError as error:
            if "utf" not in str(error).lower():
                raise DataError(f"{self.path} cannot be read as a table: {error}") from error
            data, found = whole_utf8(self.path, self.encoding)
            self._note(encoding_notes(self.path, self.encoding, found))
            frame, records = self._parse(data, types)
            lossy = found.damaged
        if self._skip():
            self._note([f"{self.path.name}: line 1 is Excel's sep= line, which names the separator"])
        if records is not None and records.note:
            self._note([f"{self.path.name}: {records.note}"])
        frame = self._without_spaces(frame, records, data)
        first = 1 + self.header + self._skip()
        if records is not None and records.starts is not None:
            lines = pl.Series("line", records.starts).cast(pl.UInt32)
            return frame.select(lines, pl.all()), lossy
        return frame.with_row_index("line", first).with_columns(pl.col("line").cast(pl.UInt32)), lossy

    def _note(self, notes: list[str]) -> None:
        self.notes.extend(note for note in notes if note not in self.notes)

    def _skip(self) -> int:
        """Lines before the header: Excel's `sep=`."""
        return int(separator_line(self.path, self.encoding) is not None)

    def _parse(
        self, data: Path | bytes, types: Mapping[str, pl.DataType]
    ) -> tuple[pl.DataFrame, Records | None]:
        if len(self.separator) > 1:
            return self._split_lines(data, types), None
        skip, records = self._skip(), None
        if self.quote not in (None, "none") and _holds(data, b'"'):
            assert self.quote is not None
            whole = pl.read_lines(data, name="line", glob=False)["line"]
            if whole[0].startswith("\ufeff"):
                whole = pl.concat([whole[:1].str.strip_prefix("\ufeff"), whole[1:]])
            spaced = any(_holds(data, mark) for mark in (b'" ', b' "', b'"\t', b'\t"'))
            quoting = Quoting(self.path, whole, self.separator, len(self.names), skip, self.header, spaced)
            records = quoting.rows(self.quote)
        rows = data if records is None or records.data is None else records.data
        names = [f"column {place}" for place in range(len(self.names))] + [EXTRA]
        columns = dict(zip(self.names, names[:-1], strict=True)) | {EXTRA: EXTRA}
        kinds = dict(zip(names, (types.get(name, pl.String()) for name in (*self.names, EXTRA)), strict=True))
        scan = pl.scan_csv(
            rows, has_header=False, skip_lines=skip + self.header if rows is data else 0, schema=kinds,
            separator=self.separator, quote_char='"' if records is not None and records.quoted else None,
            ignore_errors=True, truncate_ragged_lines=True, missing_columns="insert", raise_if_empty=False, glob=False,
        )  # fmt: skip
        frame = scan.select(pl.col(columns[name]).alias(name) for name in (*types, EXTRA)).collect()
        if records is not None and frame.height != records.count:
            raise DataError(
                f"{self.path}: {records.count:,} records, of which {frame.height:,} were read as rows. Pass --quote "
                "none if quotes are ordinary characters in this file, or write it again with quotes doubled."
            )
        return frame, records

    def _split_lines(self, data: Path | bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
        lines = pl.read_lines(data, name="text", glob=False).slice(self.header + self._skip())
        cells = pl.col("text").str.strip_prefix("\ufeff").str.split_exact(self.separator, len(self.names))
        parts = lines.select(cells.struct.rename_fields([*self.names, EXTRA])).unnest("text")
        wanted = [pl.col(n).replace("", None).cast(kind, strict=False) for n, kind in types.items()]
        return parts.select(*wanted, EXTRA)

    def _without_spaces(
        self, frame: pl.DataFrame, records: Records | None, data: Path | bytes
    ) -> pl.DataFrame:
        """Cells without the spaces around them; where they were quoted, ids alone. A note says how many had some."""
        marks = [
            b" ",
            b"\xc2",
            *([b"\t"] if self.separator != "\t" else []),
        ]  # U+00A0 is C2 A0; one byte is found fast
        if self.separator == " " or not any(_holds(data, mark) for mark in marks):
            return frame
        done = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
        if records is not None and len(records.exact):
            done = done.scatter(records.exact, True)
        changed: dict[str, int] = {}
        if records is not None and records.padded:
            changed["cells in rows with quotes"] = records.padded
        names = [name for name, kind in frame.schema.items() if kind == pl.String and name != EXTRA]
        frame, counts = _stripped(frame, names, ~done)
        changed |= counts
        if changed:
            listed = ", ".join(f"{count:,} of {name}" for name, count in changed.items())
            self._note([f"{self.path.name}: spaces around cells were removed: {listed}"])
        notes: list[str] = []
        if done.any():
            frame = stripped_ids(
                self.path, frame, [name for name in ("user_id", "item_id") if name in names], notes
            )
        self._note(notes)
        return frame


def _stripped(
    frame: pl.DataFrame, names: Sequence[str], rows: pl.Series
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Texts of some rows without spaces around them, and how many had some."""
    counts = {}
    for name in names:
        padded = frame[name].str.contains(r"^[ \t\x{a0}]|[ \t\x{a0}]$").fill_null(False) & rows
        if count := int(padded.sum()):
            counts[name] = count
            stripped = pl.col(name).str.strip_chars(" \t\u00a0").replace("", None)
            frame = frame.with_columns(pl.when(padded).then(stripped).otherwise(name).alias(name))
    return frame, counts


def stripped_ids(path: Path, frame: pl.DataFrame, ids: Sequence[str], notes: list[str]) -> pl.DataFrame:
    """Ids of JSON, Parquet or in quotes without spaces around them, where that makes no two of them one; and a note."""
    every = pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)
    for name in ids:
        found, counts = _stripped(frame, [name], every)
        if not counts:
            continue
        if found[name].drop_nulls().n_unique() == frame[name].replace("", None).drop_nulls().n_unique():
            notes.append(f"{path.name}: spaces around {counts[name]:,} of {name} were removed")
            frame = found
        else:
            pairs = pl.DataFrame({"id": frame[name], "plain": found[name]}).drop_nulls().unique()
            alike = pairs.filter(pl.col("plain").is_duplicated()).sort("plain", "id")["id"]
            notes.append(
                f"warning: {path.name}: {counts[name]:,} of {name} have spaces around them, and other ids differ by "
                f"these alone, such as {alike[0]!r} and {alike[1]!r}; all stay as they are. Write them alike if they "
                "are the same"
            )
    return frame


def _holds(data: Path | bytes, mark: bytes) -> bool:
    return mark in data if isinstance(data, bytes) else holds(data, mark)


def placed_names(
    names: Sequence[str], placed: Mapping[int, str], own: Sequence[str] = OWN
) -> tuple[str, ...]:
    """Names of columns with those at some places called as said, however the others are called.

    Another column of such a name, or of one of `own`, is called `other_...`, one without a name `column_3`.
    """
    taken = {*placed.values(), *own}
    found = []
    for place, name in enumerate(names):
        if place in placed:
            found.append(placed[place])
            continue
        name = name or f"column_{place + 1}"
        while name in taken:
            name = f"other_{name}"
        taken.add(name)
        found.append(name)
    return tuple(found)


def valid_rows(
    frame: pl.DataFrame, layout: Delimited, lossy: bool, ids: Sequence[str], more: Sequence[Check] = ()
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part a frame from `Delimited.read` into its valid rows and a table of rejected ones, by `more` checks too."""
    texts = [name for name, kind in frame.schema.items() if kind == pl.String and name != EXTRA]
    beyond = (pl.col(EXTRA).is_not_null(), f"more than {len(layout.names)} fields")
    quoted = layout.quote not in (None, "none") and holds(layout.path, b'"')
    checks = [beyond, *row_checks(frame.schema, ids, lossy=lossy, quoted=quoted), *more]
    if lossy:
        others = [name for name in texts if name not in ids]
        checks += [
            (pl.col(n).str.contains("\ufffd", literal=True), f"{n} is not valid UTF-8") for n in others
        ]
    good, failed = part_rows(frame, checks)
    table = rejections(layout.path, failed["line"], failed["reason"], layout.encoding)
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


def header_of(
    path: Path, separator: str, quote: Quote | None = "auto", encoding: str = "auto"
) -> tuple[str, ...]:
    """The cells of the header, unquoted."""
    return tuple(header_cells(opening(path, 20, encoding), separator, quote))


def typed_separator(text: str | None) -> str | None:
    """The separator that was typed, also as `tab` or as backslash and t."""
    return None if text is None else TYPED.get(text.lower(), text)


def guess_separator(path: Path, encoding: str = "auto") -> str:
    """The separator that Excel's first line names, or that of line 1 that occurs in most of the first lines, and
    equally often; `,` in doubt."""
    if named := separator_line(path, encoding):
        return named
    lines = [re.sub(r'"[^"]*"', "", line) for line in opening(path, 20, encoding) if line.strip()]

    def steady(mark: str) -> int:
        counts = [line.count(mark) for line in lines]
        return counts.count(counts[0]) if counts[0] else 0

    return max((",", "\t", "::", ";", "|", "\x01", " "), key=steady)
