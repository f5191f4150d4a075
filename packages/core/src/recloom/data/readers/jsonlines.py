"""JSON lines and JSON arrays, read in pieces of whole lines; single lines are parsed only where a piece fails."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ...errors import DataError
from . import no_rejections
from .encodings import Guess
from .text import SHOWN, chunks, encoding_notes, guessed, opening

PIECE = 1 << 26
LITERAL = 1 << 20
"""Characters of a Python dictionary at most: it is parsed as a literal, and never run."""
NO_OBJECT = (ValueError, SyntaxError, MemoryError, RecursionError)
"""What is raised for a line that is no object; the last two for literals that are nested too deeply."""
HALF = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
"""Half of a character above U+FFFF (a lone surrogate), which is no text, and which Polars reads as NUL."""
LOOKED_AT = 1_000
"""Objects whose keys are looked at."""


def read_json_lines(
    path: Path,
    keys: Sequence[str] | Mapping[str, str],
    *,
    python_literals: bool = False,
    encoding: str = "auto",
    notes: list[str] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Some keys of one object a line, as text (lists and objects as JSON), with `line`; and rejected lines.

    A file that is one array of objects is read as well; `line` is where an object begins.

    Args:
        keys: a key that an object lacks gives null; a mapping says what each is called in the table.
        python_literals: also read lines that are Python dictionaries, as the Amazon metadata of 2014 are.
        encoding: of the file, or `auto`.
        notes: what had to be assumed is added here.
    """
    names = keys if isinstance(keys, Mapping) else {key: key for key in keys}
    if _is_array(path, encoding):
        return _read_array(path, names, encoding)
    encoding, found = _encoding(path, encoding)
    frames, rejected, before = [], [no_rejections()], 0
    for piece in chunks(path, PIECE, encoding):
        count = piece.count(b"\n") + (not piece.endswith(b"\n"))
        frame = None if HALF.search(piece) else _parse(piece, [*names])
        if frame is None or frame.height != count:
            frame, bad = _parse_singly(piece, [*names], path, before, python_literals)
            rejected.append(bad)
        else:
            frame = _numbered(frame, pl.int_range(before + 1, before + count + 1, eager=True))
        frames.append(frame)
        before += count
    if notes is not None:
        notes += encoding_notes(path, encoding if found is None else "auto", found)
    table = pl.concat(frames)
    table.columns = ["line", *names.values()]
    return table, pl.concat(rejected)


def json_keys(path: Path, encoding: str = "auto", objects: int = LOOKED_AT) -> list[str]:
    """The keys of the first objects, in the order in which they first stand there. Raises DataError for none."""
    keys: dict[str, None] = {}
    for found in first_objects(path, encoding, objects):
        keys |= dict.fromkeys(found)
    if not keys:
        raise DataError(
            f"{path} holds no JSON object in its first lines. Expected one object a line, or one array of objects; "
            "where all is within one object, write its rows out so."
        )
    return list(keys)


def first_objects(path: Path, encoding: str = "auto", objects: int = LOOKED_AT) -> list[dict[str, Any]]:
    """The first objects of a file, of lines or of one array; what is no object is left out."""
    some: list[dict[str, Any]] = []
    if _is_array(path, encoding):
        for place, (_, found) in enumerate(_elements(path, encoding)):
            some += [found] if isinstance(found, dict) else []
            if place == objects:
                break
    for line in [] if some else opening(path, objects, encoding):
        with contextlib.suppress(*NO_OBJECT):
            some.append(_object(line, python_literals=True))
    return some


def _encoding(path: Path, encoding: str) -> tuple[str, Guess | None]:
    """The encoding of the whole file, and the guess where it is not the UTF-8 that its beginning is."""
    if encoding.lower() == "auto":
        for piece in chunks(path, PIECE, encoding):
            try:
                _ = piece.isascii() or piece.decode()
            except UnicodeDecodeError:
                found = guessed(path)
                return str(found.name), found
    return encoding, None


def _numbered(frame: pl.DataFrame, lines: pl.Series) -> pl.DataFrame:
    """The frame with its lines before the keys, of which one may be called `line` too."""
    frame.columns = [f"key {place}" for place in range(frame.width)]
    return frame.select(lines.cast(pl.UInt32).alias("line"), pl.all())


def _parse(piece: bytes, keys: list[str]) -> pl.DataFrame | None:
    try:
        return pl.read_ndjson(piece, schema=dict.fromkeys(keys, pl.String()), ignore_errors=True)
    except pl.exceptions.ComputeError:
        return None


def _parse_singly(
    piece: bytes, keys: list[str], path: Path, before: int, python_literals: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows: list[tuple[Any, ...]] = []
    bad: list[tuple[str, int, str, str]] = []
    for number, raw in enumerate(piece.removesuffix(b"\n").split(b"\n"), before + 1):
        try:
            found = _object(raw.decode("utf-8"), python_literals)
            row = _row(number, found, keys)
        except NO_OBJECT as error:
            bad.append((path.name, number, _reason(raw, error), raw[:SHOWN].decode("utf-8", "replace")))
            continue
        rows.append(row)
    table = pl.DataFrame(bad, schema=no_rejections().schema, orient="row")
    return _frame(rows, len(keys)), table


def _frame(rows: list[tuple[Any, ...]], width: int) -> pl.DataFrame:
    schema: dict[str, pl.DataType] = {"line": pl.UInt32()}
    schema |= {f"key {place}": pl.String() for place in range(width)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _is_array(path: Path, encoding: str) -> bool:
    """Whether a file is one array: `[` alone, or before an object."""
    lines = [line.strip() for line in opening(path, 5, encoding)]
    begins = "".join(lines)[:200].lstrip()
    return (
        begins.startswith("[") and re.match(r"\[\s*(\{|\[?\s*$)", begins) is not None and not _whole(lines[0])
    )


def _whole(line: str) -> bool:
    """Whether a line is an array without objects, so that the file holds one a line."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return not any(isinstance(one, dict) for one in found)


def _elements(path: Path, encoding: str) -> Iterator[tuple[int, Any]]:
    """The elements of an array with the 1-based line on which each begins. Raises DataError where it is broken."""
    text = b"".join(chunks(path, encoding=encoding)).decode("utf-8")
    decoder, gap = json.JSONDecoder(), re.compile(r"[\s,]*")
    place = text.index("[") + 1
    line, counted = 1, 0
    while True:
        place = gap.match(text, place).end()  # type: ignore[union-attr]
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            return
        try:
            found, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}, line {line:,}: the JSON array is broken there ({error}). Export it again, or write one "
                "object a line."
            ) from error
        yield line, found


def _read_array(path: Path, names: Mapping[str, str], encoding: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows: list[tuple[Any, ...]] = []
    bad: list[tuple[str, int, str, str]] = []
    for line, found in _elements(path, encoding):
        try:
            if not isinstance(found, dict):
                raise ValueError("not an object")
            rows.append(_row(line, found, names))
        except ValueError as error:
            text = json.dumps(found) if isinstance(error, UnicodeEncodeError) else str(_text(found))
            bad.append((path.name, line, _reason(b"[]", error), text[:SHOWN]))
    table = _frame(rows, len(names))
    table.columns = ["line", *names.values()]
    return table, pl.DataFrame(bad, schema=no_rejections().schema, orient="row")


def _object(text: str, python_literals: bool) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        if not python_literals:
            raise
        found = ast.literal_eval(text) if len(text) <= LITERAL else None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _row(line: int, found: Mapping[str, Any], keys: Iterable[str]) -> tuple[Any, ...]:
    """The line and the values of keys. Raises UnicodeEncodeError for half of a character."""
    values = [_text(found.get(key)) for key in keys]
    "".join(filter(None, values)).encode()
    return line, *values


def _reason(raw: bytes, error: Exception) -> str:
    if not raw.strip():
        return "empty line"
    if isinstance(error, UnicodeEncodeError):
        return "half of a character (a lone surrogate), which is no text"
    return "not valid UTF-8" if isinstance(error, UnicodeDecodeError) else "not a JSON object"


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
