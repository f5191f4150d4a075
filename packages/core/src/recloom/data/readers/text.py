"""Text files: decoded to UTF-8, their openings, lines by number, gzip, and the table of rejected rows."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl

from ...errors import DataError
from . import REJECTED, no_rejections
from .encodings import Guess, from_start, guess
from .foreign import binary_format

SHOWN = 200
"""How many characters of a rejected row are kept."""
DELIMITED = (".csv", ".tsv", ".txt", ".dat", ".inter", ".tab")
JSON = (".jsonl", ".ndjson", ".json")
TABLES = (*DELIMITED, *JSON, ".parquet", ".item", ".user", ".kg", ".link", ".net")
"""Endings of files that may be tables; `.gz` may follow."""
PAGES = ("readme", "license", "licence", "changelog", "notice", "citation")
_CHUNK = 1 << 24
_START = 1 << 16
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


def table_files(folder: Path) -> list[Path]:
    """The files of a folder that may be tables, by their endings."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and is_table(path)]


def is_table(path: Path) -> bool:
    """Whether a file may be a table, by its name."""
    name = path.name.lower()
    return name[0] not in "._" and name.removesuffix(".gz").endswith(TABLES) and not name.startswith(PAGES)


def kind_of(path: Path, encoding: str = "auto") -> str:
    """`parquet`, `json` or `delimited`, by the file's ending and first character."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix == ".parquet":
        return "parquet"
    if suffix in JSON:
        return "json"
    begins = "" if suffix in DELIMITED else opening(path, 1, encoding)[0].strip()
    return "json" if begins.startswith(("{", "[{")) or begins == "[" else "delimited"


def opening(path: Path, lines: int = 200, encoding: str = "auto") -> list[str]:
    """The first lines of a text file (.gz read directly), without line ends and without Excel's `sep=` line.

    Bytes that are not valid in the file's encoding show as �. Raises DataError when the file is absent or empty.
    """
    texts = _first_lines(path, lines + 1, encoding)
    texts = texts[1:] if named_separator(texts[0]) else texts[:lines]
    if not any(text.strip() for text in texts):
        raise DataError(f"{path} is empty: expected at least one row. Download or export it again.")
    return texts


def _first_lines(path: Path, lines: int, encoding: str) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path} is not a file. Check --path.")
    if _plain(path, encoding):
        found: list[bytes] = []
        with contextlib.suppress(*_DAMAGED), _open(path) as file:  # reading on will say that it is damaged
            found += (file.readline(1 << 20) for _ in range(lines))
        if not found:
            next(chunks(path, encoding=encoding), b"")  # says how the file is damaged
    else:
        pieces = chunks(path, _START, encoding)
        every = (line + b"\n" for piece in pieces for line in piece.removesuffix(b"\n").split(b"\n"))
        found = list(islice(every, lines))
    texts = [line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n") for line in found if line]
    return texts or [""]


def named_separator(line: str) -> str | None:
    """The separator that Excel's first line `sep=;` names."""
    found = re.fullmatch(r'"?sep=(.|\\t)"?[,;\t]*', line.removeprefix("\ufeff").rstrip("\r\n"), re.IGNORECASE)
    return found[1].replace("\\t", "\t") if found else None


def separator_line(path: Path, encoding: str = "auto") -> str | None:
    """The separator that the first line of a file names, where it is Excel's `sep=;`, which `opening` leaves out."""
    return named_separator(_first_lines(path, 1, encoding)[0])


def encoding_of(path: Path, encoding: str = "auto") -> str:
    """The codec of a text file: `encoding`, or what its first bytes say, or the guess of its words.

    A file whose beginning is UTF-8 counts as such; whether all of it is shows when it is read (`guessed`). Raises
    DataError for an unknown encoding, for bytes that are no text, and where no guess is sound.
    """
    start = _start(path)
    if other := binary_format(path, start):
        raise DataError(other)
    found = from_start(start)
    if encoding.lower() != "auto":
        return _codec(encoding, found)
    if found is not None:
        return found
    if b"\0" in start[:4096]:
        raise DataError(f"{path} holds NUL bytes, so it is no text. Export it again as CSV in UTF-8.")
    with contextlib.suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(start)
        return "utf-8"
    return str(guessed(path).name)


def _codec(encoding: str, marked: str | None) -> str:
    try:
        "".encode(encoding)
        name = codecs.lookup(encoding).name
    except LookupError:
        raise DataError(
            f"no encoding is called {encoding!r} (--encoding). Such as utf-8, utf-16, cp1252 (Western), cp1251 "
            "(Russian), gb18030 (Chinese), shift_jis (Japanese), or auto."
        ) from None
    if name in ("utf-16", "utf-8-sig"):
        return marked or ("utf-16-le" if name == "utf-16" else "utf-8")
    return name


def guessed(path: Path) -> Guess:
    """What a file that is not all UTF-8 is taken for. Raises DataError, with its first bytes, in doubt."""
    stat = path.stat()
    found = _guessed(path, stat.st_size, stat.st_mtime_ns)
    if found.name is None:
        line, seen, text = first_fault(path, "utf-8")
        raise DataError(
            f"{path}, line {line:,}: the bytes {seen} are not UTF-8 ({text!r}), and no other encoding is certain. Name "
            "it: --encoding cp1252 (Western), cp1250 (Central European), cp1251 (Russian), shift_jis (Japanese), "
            "gb18030 or big5 (Chinese) or another; --encoding utf-8 leaves such rows out."
        )
    return found


@lru_cache(256)
def _guessed(path: Path, size: int, changed: int) -> Guess:
    return guess(_raw_chunks(path, _CHUNK))


def first_fault(path: Path, name: str) -> tuple[int, str, str]:
    """The 1-based line of the first bytes that are not valid in an encoding; the bytes; the line, with � in it."""
    before = 0
    pieces = _raw_chunks(path, _CHUNK)
    for piece in [b"".join(pieces)] if name.startswith("utf-16") else pieces:
        try:
            before += piece.decode(name).count("\n")
        except UnicodeDecodeError as error:
            *others, start = piece[: error.start].decode(name).split("\n")
            rest = piece[error.start : error.start + 4 * SHOWN].decode(name, "replace").split("\n")[0]
            return (
                before + len(others) + 1,
                piece[error.start : error.end].hex(" "),
                (start + rest).rstrip()[:SHOWN],
            )
    return before + 1, "", ""


def content(path: Path, encoding: str = "auto") -> Path | bytes:
    """The path itself for polars to map, or the UTF-8 bytes of a file that is packed or in another encoding.

    Raises DataError for a gzip file that ends too early, and says how far it read.
    """
    if path.suffix != ".gz" and _plain(path, encoding):
        return path
    return b"".join(chunks(path, encoding=encoding))


def whole_utf8(path: Path, encoding: str = "auto") -> tuple[bytes, Guess]:
    """All of a file that turned out not to be UTF-8, as UTF-8, and what it was taken for.

    Where it is UTF-8 but for a few damaged rows, their wrong bytes stand as �, which `Guess.damaged` says.
    """
    if encoding_of(path, encoding) == "utf-8" and encoding.lower() != "auto":
        return b"".join(chunks(path, encoding="utf-8")).decode("utf-8", "replace").encode(), Guess(
            "utf-8", damaged=True
        )
    found = guessed(path)
    if found.damaged:
        return b"".join(chunks(path, encoding="utf-8")).decode("utf-8", "replace").encode(), found
    return b"".join(chunks(path, encoding=str(found.name))), found


def encoding_notes(path: Path, encoding: str = "auto", found: Guess | None = None) -> list[str]:
    """What was assumed of a file's bytes, in words; nothing for UTF-8. `found` is what reading it showed."""
    if found is not None and found.damaged:
        line, seen, _ = first_fault(path, "utf-8")
        return [
            f"{path.name}: rows with bytes that are not UTF-8 are left out, the first is line {line:,} ({seen})"
        ]
    name = encoding_of(path, encoding)
    if encoding.lower() != "auto":
        return _also_utf8(path, name)
    if found is None and name == "utf-8":
        return []
    if name.startswith("utf-16"):
        return [f"{path.name}: UTF-16"]
    found = found or guessed(path)
    return [
        f"{path.name}: not UTF-8; read as {found.name}, such as {found.example!r} (a guess; --encoding says otherwise)"
    ]


def _also_utf8(path: Path, name: str) -> list[str]:
    """A file that --encoding may have been meant for another one."""
    if name == "utf-8" or name.startswith("utf-16"):
        return []
    ascii_only = True
    for piece in _raw_chunks(path, _CHUNK):
        ascii_only &= piece.isascii()
        try:
            piece.decode()
        except UnicodeDecodeError:
            return []
    if ascii_only:
        return []
    return [f"{path.name}: its bytes are valid UTF-8 too; read as {name}, as --encoding says"]


def holds(path: Path, mark: bytes) -> bool:
    """Whether some bytes occur anywhere in a file as it is stored; in a `.gz` file, in what is packed."""
    if path.suffix == ".gz":
        return any(mark in piece for piece in _raw_chunks(path, _CHUNK))
    if not path.stat().st_size:
        return False
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return content.find(mark) >= 0


def chunks(path: Path, size: int = _CHUNK, encoding: str = "auto") -> Iterator[bytes]:
    """Pieces of about `size` bytes of UTF-8 that end at a line end, of a plain or `.gz` file in any encoding.

    Raises DataError for a damaged `.gz` file, with the line up to which it can be read, and for bytes that are not
    valid in an encoding other than UTF-8.
    """
    name, ends = encoding_of(path, encoding), _old_mac(path)
    first = True
    if name == "utf-8":
        for piece in _raw_chunks(path, size):
            piece = piece.removeprefix(codecs.BOM_UTF8) if first else piece
            yield piece.replace(b"\r", b"\n") if ends else piece
            first = False
        return
    decoder, rest = codecs.getincrementaldecoder(name)(), ""
    try:
        for piece in _raw_chunks(path, size):
            text = rest + decoder.decode(piece)
            text = text.removeprefix("\ufeff") if first else text
            text = text.replace("\r", "\n") if ends else text
            first = False
            whole, found, rest = text.rpartition("\n")
            if found:
                yield (whole + found).encode()
        rest += decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line, seen, text = first_fault(path, name)
        raise DataError(
            f"{path}, line {line:,}: the bytes {seen} are not valid {name} ({text!r}). Name the encoding of the file "
            "with --encoding, or export it in UTF-8."
        ) from error
    if rest:
        yield rest.encode()


def _raw_chunks(path: Path, size: int) -> Iterator[bytes]:
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


def _start(path: Path) -> bytes:
    with contextlib.suppress(*_DAMAGED), _open(path) as file:
        return file.read(_START)
    return b""


def _plain(path: Path, encoding: str) -> bool:
    """Whether the bytes of a file are lines of UTF-8 as they are stored."""
    return encoding_of(path, encoding) == "utf-8" and not _old_mac(path)


def _old_mac(path: Path) -> bool:
    """Whether lines end with CR alone, as files of old Macs do."""
    start = _start(path)
    return b"\r" in start[:-1] and b"\n" not in start


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else open(path, "rb")


def _readable(path: Path) -> int:
    """How many lines a damaged file still gives."""
    found = 0
    with contextlib.suppress(*_DAMAGED), _open(path) as file:
        while file.readline():
            found += 1
    return found


def rejections(path: Path, lines: pl.Series, reasons: pl.Series, encoding: str = "auto") -> pl.DataFrame:
    """A table of rejected rows with their text, for 1-based line numbers in any order."""
    if not len(lines):
        return no_rejections()
    texts = lines_at(path, lines.cast(pl.Int64).to_numpy(), encoding)
    return pl.DataFrame(
        {"file": path.name, "line": lines.cast(pl.Int64), "reason": reasons, "text": texts}, schema=REJECTED
    )


def first_of_each(
    table: pl.DataFrame, key: str, path: Path, encoding: str = "auto"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first row of every id, and the later ones as rejections; `line` says where rows stand."""
    first = table[key].is_first_distinct()
    again = table.filter(~first)["line"]
    reason = pl.repeat(f"{key} stands in an earlier row already", len(again), dtype=pl.String, eager=True)
    return table.filter(first), rejections(path, again, reason, encoding)


def lines_at(
    path: Path, numbers: np.ndarray[tuple[int], np.dtype[np.int64]], encoding: str = "auto"
) -> list[str]:
    """The first 200 characters of lines by 1-based number; only these lines are decoded."""
    order = np.argsort(numbers, kind="stable")
    wanted, texts, before = numbers[order], [""] * len(numbers), 0
    for piece in chunks(path, encoding=encoding):
        ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == 10)
        starts = np.concatenate([[0], ends + 1])
        low, high = np.searchsorted(wanted, [before + 1, before + len(ends) + 1])
        if before + len(starts) >= 1 and starts[-1] < len(piece):  # the last line has no line end
            high = np.searchsorted(wanted, before + len(starts) + 1)
        for place in range(low, high):
            start = starts[wanted[place] - before - 1]
            line = piece[start : start + 4 * SHOWN].split(b"\n", 1)[0].rstrip(b"\r")
            texts[order[place]] = line.decode("utf-8", "replace")[:SHOWN]
        before += len(ends)
        if before >= wanted[-1]:
            break
    return texts
