"""Quoted fields of a table: which way a file has of quoting, and its records as cells, no row swallowed.

A line is sound where every field either has no quote or is quoted as a whole, with doubled quotes inside (RFC 4180).
Only the other lines are looked at one by one. A quote inside a field that is not quoted is an ordinary character.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from ...errors import DataError
from ..card import Quote

LONGEST = 2_000
"""Lines that one quoted field may span."""
AT_ONCE = 1 << 19
"""Lines that are written out together."""


@dataclass
class Records:
    """The rows of a file below its header, as any parser of CSV reads them alike."""

    count: int
    quoted: bool = True
    """Whether quotes enclose fields."""
    data: bytes | None = None
    """CSV of the rows; None where those of the file itself can be parsed as they are."""
    starts: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
    """The 1-based first line of each row, where it is not that of the file."""
    exact: np.ndarray[tuple[int], np.dtype[np.int64]] = field(default_factory=lambda: np.empty(0, np.int64))
    """Places of rows, counted from 0, whose cells stand without the spaces around them already."""
    padded: int = 0
    """Cells of these rows that had such spaces."""
    note: str | None = None


@dataclass
class Cells:
    """One record."""

    cells: list[str]
    end: int
    """The line after it, counted from 0."""
    quoted: list[bool]
    doubtful: int = 0
    """Cells that begin with a quote which closes before their end."""
    padded: int = 0
    """Cells, not quoted, with spaces around them, which are removed."""


class Swallowed(ValueError):
    """A field opens a quote that takes in later rows, or none closes it."""


def sound(separator: str, backslash: bool = False) -> str:
    """The pattern of a line in which quotes are used as they should be."""
    mark = re.escape(separator)
    quoted, plain = '"(?:[^"]|"")*"', f'[^"{mark}]*'
    if backslash:
        quoted, plain = r'"[^"\\]*"', rf'[^"\\{mark}]*'
    return rf"^(?:{quoted}|{plain})(?:{mark}(?:{quoted}|{plain}))*\r?$"


def padded(separator: str) -> str:
    """The pattern of a line in which a quoted field begins or ends with a space."""
    mark = re.escape(separator)
    return rf'(?:^|{mark})"[ \t]|[ \t]"(?:{mark}|\r?$)'


def record(lines: Sequence[str] | pl.Series, start: int, separator: str, backslash: bool = False) -> Cells:
    """The record that begins at a line, possibly over several. Raises Swallowed."""
    mark, pad = re.escape(separator), {" ": "", "\t": " *"}.get(separator, r"[ \t]*")
    inner = r'(?:[^"\\]|\\.|"")*+' if backslash else r'(?:[^"]|"")*+'
    opens, closed = re.compile(f'{pad}"'), re.compile(f'{pad}"({inner})"', re.DOTALL)
    whole = re.compile(f'{pad}"({inner})"{pad}(?={mark}|\\Z)', re.DOTALL)
    text, place = lines[start].removesuffix("\r"), 0
    found = Cells([], start + 1, [])
    while True:
        opened = opens.match(text, place)
        while opened and not closed.match(text, place):
            text, found.end = _longer(text, lines, start, found.end)
        cell = whole.match(text, place) if opened else None
        if cell:
            inside = cell[1].replace('""', '"')
            found.cells.append(re.sub(r'\\(["\\])', r"\1", inside) if backslash else inside)
            place = cell.end()
        else:
            if opened and "\n" in text[place:]:
                raise Swallowed(
                    "a field opens a quote that is closed in a later row, in the midst of a field"
                )
            stop = text.find(separator, place)
            stop = len(text) if stop < 0 else stop
            found.cells.append(text[place:stop].strip(" \t"))
            found.padded += text[place:stop] != found.cells[-1]
            found.doubtful += opened is not None
            place = stop
        found.quoted.append(cell is not None)
        if place >= len(text):
            return found
        place += len(separator)


def _longer(text: str, lines: Sequence[str] | pl.Series, start: int, end: int) -> tuple[str, int]:
    """The text and the lines after it up to the next one with a quote."""
    more = [text]
    while end < len(lines) and end - start <= LONGEST:
        more.append(lines[end].removesuffix("\r"))
        end += 1
        if '"' in more[-1]:
            return "\n".join(more), end
    raise Swallowed("a quote is opened and never closed")


def cells_of(line: str, separator: str, quote: Quote | None = "auto") -> list[str]:
    """The cells of one line, as far as it can be told from the line alone."""
    if quote not in (None, "none") and len(separator) == 1 and '"' in line:
        with contextlib.suppress(Swallowed):
            return record([line], 0, separator, quote == "backslash" or '\\"' in line).cells
    return line.split(separator)


def header_cells(lines: Sequence[str], separator: str, quote: Quote | None) -> list[str]:
    """The cells of the first record, without quotes and spaces around them."""
    if quote not in (None, "none") and len(separator) == 1 and '"' in lines[0]:
        with contextlib.suppress(Swallowed):
            return [cell.strip() for cell in record(lines, 0, separator, quote == "backslash").cells]
    return [cell.strip().strip('"') for cell in lines[0].split(separator)]


@dataclass
class _Reading:
    """The lines that are not sound, read in one way."""

    records: dict[int, Cells]
    fault: tuple[int, str] | None
    """The 1-based line of the first field that takes in rows, and what is wrong there."""
    cost: int
    """Records of another width, and doubtful cells."""


@dataclass
class Quoting:
    """A file in which there are quotes, and how it may be read."""

    path: Path
    lines: pl.Series
    """All lines."""
    separator: str
    width: int
    """Columns of the header."""
    skip: int
    """Lines before the header."""
    header: bool
    spaced: bool = True
    """Whether there are spaces or tabs beside quotes."""

    def rows(self, quote: Quote) -> Records:
        """The rows of the file. Raises DataError where a field takes in later rows."""
        odd = self._odd(sound(self.separator))
        if self.spaced:
            odd = np.union1d(odd, self._matching(padded(self.separator)))
        if not len(odd) and quote != "backslash":
            if quote == "auto" and self.separator == "\t" and not self._quotes_enclose():
                return self._none("quotes stand for themselves; --quote double where they enclose fields")
            return Records(len(self.lines) - self.skip - self.header)
        ways = {} if quote == "backslash" else {"double": self._read(odd, False, quote == "auto")}
        if quote == "backslash" or (quote == "auto" and self._among(odd, '\\\\"')):
            unsound = np.union1d(self._odd(sound(self.separator, True)), odd)
            ways["backslash"] = self._read(unsound, True, quote == "auto")
        best = min(ways, key=lambda way: (ways[way].fault is not None, ways[way].cost))
        chosen = ways[best]
        if quote == "auto" and self.separator == "\t" and (chosen.fault or chosen.cost):
            counts = self.lines.gather(odd).str.count_matches("\t", literal=True) + 1
            if (counts == self.width).all():
                return self._none(
                    "quotes stand for themselves, as every line has all its fields without them"
                )
        if chosen.fault:
            line, fault = chosen.fault
            raise DataError(
                f"{self.path}, line {line:,}: {fault}. Close or double it, or pass --quote none if quotes are ordinary "
                "characters in this file, --quote double if a field does hold several lines."
            )
        note = "quotes inside fields are escaped by a backslash" if best == "backslash" else None
        if doubtful := sum(found.doubtful for found in chosen.records.values()):
            kept = (
                f"{doubtful:,} fields begin with a quote that closes before their end: they keep their quotes"
            )
            note = "; ".join(filter(None, [note, kept]))
        return self._written(chosen.records, note)

    def _none(self, note: str) -> Records:
        return Records(len(self.lines) - self.skip - self.header, quoted=False, note=note)

    def _matching(self, pattern: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return self.lines.str.contains(pattern).arg_true().to_numpy().astype(np.int64)

    def _odd(self, pattern: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return (~self.lines.str.contains(pattern)).arg_true().to_numpy().astype(np.int64)

    def _among(self, places: np.ndarray[tuple[int], np.dtype[np.int64]], pattern: str) -> bool:
        return bool(self.lines.gather(places).str.contains(pattern).any())

    def _quotes_enclose(self) -> bool:
        """Whether quotes enclose fields in sound lines: in the header, in most lines, doubled or around tabs."""
        quoted = self.lines.filter(self.lines.str.contains('"', literal=True))
        counts = quoted.str.count_matches("\t", literal=True) + 1
        return bool(
            (self.header and '"' in self.lines[self.skip])
            or 2 * len(quoted) > len(self.lines)
            or quoted.str.contains('""', literal=True).any()
            or (counts != self.width).any()
        )

    def _read(self, odd: np.ndarray[tuple[int], np.dtype[np.int64]], backslash: bool, wary: bool) -> _Reading:
        records: dict[int, Cells] = {}
        place, cost = self.skip, 0
        for start in odd.tolist():
            if start < place:
                continue
            try:
                found = record(self.lines, start, self.separator, backslash)
            except Swallowed as error:
                return _Reading(records, (start + 1, str(error)), cost)
            if found.end > start + 1 and (
                len(found.cells) != self.width or (wary and self._all_whole(start, found.end))
            ):
                fault = f"a field opens a quote that takes in the rows up to line {found.end:,}"
                return _Reading(records, (start + 1, fault), cost)
            records[start], place = found, found.end
            cost += (len(found.cells) != self.width) + found.doubtful
        return _Reading(records, None, cost)

    def _all_whole(self, start: int, end: int) -> bool:
        """Whether lines each have all fields of a row, so that a quote which spans them takes in rows."""
        rows = [line.split(self.separator) for line in self.lines[start:end]]
        return all(len(row) == self.width for row in rows) and (
            self.width > 2 or (self.width == 2 and not any(" " in row[0].strip() for row in rows))
        )

    def _written(self, records: dict[int, Cells], note: str | None) -> Records:
        keep = np.ones(len(self.lines), bool)
        first = self.skip
        if self.header:
            first = records[self.skip].end if self.skip in records else self.skip + 1
        keep[:first] = False
        texts = {}
        for start, found in records.items():
            keep[start + 1 : found.end] = False
            cells = zip(found.cells, found.quoted, strict=True)
            texts[start] = self.separator.join(self._cell(cell, quoted) for cell, quoted in cells)
        pieces = []
        for low in range(0, len(self.lines), AT_ONCE):
            lines = self.lines[low : low + AT_ONCE].to_list()
            chosen = np.flatnonzero(keep[low : low + AT_ONCE]).tolist()
            pieces += [texts.get(low + place, lines[place].removesuffix("\r")) + "\n" for place in chosen]
        starts = np.flatnonzero(keep)
        exact = np.searchsorted(starts, [start for start in records if start >= first])
        padded = sum(found.padded for start, found in records.items() if start >= first)
        return Records(len(starts), True, "".join(pieces).encode(), starts + 1, exact, padded, note)

    def _cell(self, cell: str, quoted: bool) -> str:
        if quoted or '"' in cell:
            return '"' + cell.replace('"', '""') + '"'
        return cell
