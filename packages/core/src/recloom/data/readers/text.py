"""Text files: openings, lines by number, gzip, and the table of rejected rows."""

from __future__ import annotations

import contextlib
import csv
import gzip
import zlib
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl

from ...errors import DataError
from . import REJECTED, no_rejections

SHOWN = 200
"""How many characters of a rejected row are kept."""
_CHUNK = 1 << 24
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


def opening(path: Path, lines: int = 200) -> list[str]:
    """The first lines of a text file (.gz read directly), without line ends; invalid UTF-8 shows as �.

    Raises DataError when the file is absent or empty.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file. Check --path.")
    found: list[bytes] = []
    with contextlib.suppress(*_DAMAGED), _open(path) as file:  # reading on will say that it is damaged
        found += (file.readline(1 << 20) for _ in range(lines))
    texts = [line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n") for line in found if line]
    if not found:
        next(chunks(path), b"")  # says how the file is damaged
    if not any(text.strip() for text in texts):
        raise DataError(f"{path} is empty: expected at least one row. Download or export it again.")
    return texts


def content(path: Path) -> Path | bytes:
    """The path itself for polars to map, or the unpacked bytes of a `.gz` file.

    Raises DataError for a gzip file that ends too early, and says how far it read.
    """
    if path.suffix != ".gz":
        return path
    return b"".join(chunks(path))


def holds(path: Path, mark: bytes) -> bool:
    """Whether some bytes occur anywhere in a file."""
    if path.suffix == ".gz":
        return any(mark in piece for piece in chunks(path))
    if not path.stat().st_size:
        return False
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return content.find(mark) >= 0


def chunks(path: Path, size: int = _CHUNK) -> Iterator[bytes]:
    """Pieces of about `size` bytes that end at a line end, of a plain or `.gz` file.

    Raises DataError for a damaged `.gz` file, with the line up to which it can be read.
    """
    rest = b""
    try:
        with _open(path) as file:
            while piece := file.read(size):
                whole, found, tail = piece.rpartition(b"\n")
                if found:
                    yield rest + whole + found
                rest = tail if found else rest + piece
    except _DAMAGED as error:
        raise DataError(
            f"{path} is a damaged or truncated gzip file ({error}): it could be read up to line "
            f"{_readable(path):,}. Download or copy it again, and compare its size with the source."
        ) from error
    if rest:
        yield rest


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else open(path, "rb")


def _readable(path: Path) -> int:
    """How many lines a damaged file still gives."""
    found = 0
    with contextlib.suppress(*_DAMAGED), _open(path) as file:
        while file.readline():
            found += 1
    return found


def rejections(path: Path, lines: pl.Series, reasons: pl.Series, encoding: str = "utf-8") -> pl.DataFrame:
    """A table of rejected rows with their text, for 1-based line numbers in any order."""
    if not len(lines):
        return no_rejections()
    texts = lines_at(path, lines.cast(pl.Int64).to_numpy(), encoding)
    return pl.DataFrame(
        {"file": path.name, "line": lines.cast(pl.Int64), "reason": reasons, "text": texts}, schema=REJECTED
    )


def first_of_each(
    table: pl.DataFrame, key: str, path: Path, encoding: str = "utf-8"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first row of every id, and the later ones as rejections; `line` says where rows stand."""
    first = table[key].is_first_distinct()
    again = table.filter(~first)["line"]
    reason = pl.repeat(f"{key} stands in an earlier row already", len(again), dtype=pl.String, eager=True)
    return table.filter(first), rejections(path, again, reason, encoding)


def lines_at(
    path: Path, numbers: np.ndarray[tuple[int], np.dtype[np.int64]], encoding: str = "utf-8"
) -> list[str]:
    """The first 200 characters of lines by 1-based number; only these lines are decoded."""
    order = np.argsort(numbers, kind="stable")
    wanted, texts, before = numbers[order], [""] * len(numbers), 0
    for piece in chunks(path):
        ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == 10)
        starts = np.concatenate([[0], ends + 1])
        low, high = np.searchsorted(wanted, [before + 1, before + len(ends) + 1])
        if before + len(starts) >= 1 and starts[-1] < len(piece):  # the last line has no line end
            high = np.searchsorted(wanted, before + len(starts) + 1)
        for place in range(low, high):
            start = starts[wanted[place] - before - 1]
            line = piece[start : start + 4 * SHOWN].split(b"\n", 1)[0].rstrip(b"\r")
            texts[order[place]] = line.decode(encoding, "replace")[:SHOWN]
        before += len(ends)
        if before >= wanted[-1]:
            break
    return texts


def record_lines(path: Path, separator: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The 1-based first line of every record of a file in which quoted fields may span lines."""
    csv.field_size_limit(1 << 30)
    with (
        gzip.open(path, "rt", encoding="utf-8", errors="replace", newline="")
        if path.suffix == ".gz"
        else open(path, encoding="utf-8", errors="replace", newline="") as file
    ):
        rows = csv.reader(file, delimiter=separator)
        ends = np.fromiter((rows.line_num for _ in rows), np.int64)
    return np.concatenate([[1], ends[:-1] + 1])
