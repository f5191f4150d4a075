"""JSON-lines files, read in pieces of whole lines; single lines are parsed only where a piece fails."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import polars as pl

from . import no_rejections
from .text import SHOWN, chunks, opening

PIECE = 1 << 26


def read_json_lines(
    path: Path, keys: list[str], *, python_literals: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Some keys of one object a line, as text (lists and objects as JSON), with `line`; and rejected lines.

    Args:
        keys: a key that an object lacks gives null.
        python_literals: also read lines that are Python dictionaries, as the Amazon metadata of 2014 are.
    """
    opening(path, 1)
    frames, rejected, before = [], [no_rejections()], 0
    for piece in chunks(path, PIECE):
        count = piece.count(b"\n") + (not piece.endswith(b"\n"))
        frame = _parse(piece, keys)
        if frame is None or frame.height != count:
            frame, bad = _parse_singly(piece, keys, path, before, python_literals)
            rejected.append(bad)
        else:
            frame = frame.with_row_index("line", before + 1)
        frames.append(frame.with_columns(pl.col("line").cast(pl.UInt32)))
        before += count
    return pl.concat(frames), pl.concat(rejected)


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
        except (ValueError, SyntaxError) as error:
            bad.append((path.name, number, _reason(raw, error), raw[:SHOWN].decode("utf-8", "replace")))
            continue
        rows.append((number, *(_text(found.get(key)) for key in keys)))
    schema: dict[str, pl.DataType] = {"line": pl.UInt32()} | dict.fromkeys(keys, pl.String())
    table = pl.DataFrame(bad, schema=no_rejections().schema, orient="row")
    return pl.DataFrame(rows, schema=schema, orient="row"), table


def _object(text: str, python_literals: bool) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        if not python_literals:
            raise
        found = ast.literal_eval(text)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _reason(raw: bytes, error: Exception) -> str:
    if not raw.strip():
        return "empty line"
    return "not valid UTF-8" if isinstance(error, UnicodeDecodeError) else "not a JSON object"


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
