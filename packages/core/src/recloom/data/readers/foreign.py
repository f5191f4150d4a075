"""What a file is that no reader takes: packed, binary, or text that is no table; and what to do with it, in words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from .values import guess_columns

SPREADSHEET = "an Excel workbook", "Save the sheet as CSV (UTF-8) in the program that wrote it"
NUMPY = "an array of NumPy or SciPy", "Write one row for each user and item as CSV or Parquet"
SIGNATURES: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"\x28\xb5\x2f\xfd", ("packed with zstd", "Unpack it first: zstd -d {path}")),
    (b"\xfd7zXZ\0", ("packed with xz", "Unpack it first: xz -dk {path}")),
    (b"7z\xbc\xaf", ("a 7z archive", "Unpack it first: 7z x {path}")),
    (b"\x1f\x8b", ("packed with gzip, which its name does not say", "Give it a name that ends in .gz")),
    (b"ARROW1\0", ("an Arrow or Feather file", "Write the table as Parquet")),
    (b"\xff\xff\xff\xff", ("a stream of Arrow tables", "Write the table as Parquet")),
    (b"SQLite format 3\0", ("a database of SQLite", "Export the table as CSV: sqlite3 -header -csv")),
    (b"\x93NUMPY", NUMPY),
    (b"\x89HDF", ("an HDF5 file", "Write the table as CSV or Parquet")),
    (b"\xd0\xcf\x11\xe0", SPREADSHEET),
    (b"Obj\x01", ("an Avro file", "Write the table as Parquet")),
)
ASCII_SIGNATURES: tuple[tuple[bytes, tuple[str, str]], ...] = (
    (b"PAR1", ("a Parquet file, which its name does not say", "Give it a name that ends in .parquet")),
    (b"ORC", ("an ORC file", "Write the table as Parquet")),
    (b"RDX", ("data of R", "Write the table in R: write.csv(x, file, row.names = FALSE)")),
    (b"%PDF-", ("a PDF", "Export the table behind it as CSV")),
    (b"MATLAB 5.0", ("a file of MATLAB", "Write one row for each user and item as CSV")),
)
"""Signatures that a text may begin with: they count only where NUL bytes follow."""
MARKUP = re.compile(r"<(!doctype|html|table|\?xml|body|div)\b", re.IGNORECASE)
SQL = re.compile(r"(insert into|create table|drop table|copy \S+ (\(.*\) )?from|-- mysql dump|pragma )", re.I)
RULE = re.compile(r"[\s|+:=-]*[-=]{3,}[\s|+:=-]*")
"""A line drawn between a header and its rows."""
COMMENT = re.compile(r"(#|%|//|--)")
SPARSE = re.compile(r"[^\s,;|:]+([ \t]+\d+:[-+.\deE]+){2,}")
KEYED = re.compile(r".*\b\w+=\S+.*\b\w+=\S+.*")
QUOTED = re.compile(r"'[^']*'([,;\t|]'[^']*')+")
NEAR = 30
"""Lines in which a header is looked for."""
WIDE = 8
"""Columns from which on a table of small numbers may be a matrix."""


def binary_format(path: Path, start: bytes) -> str:
    """What a file is by its first bytes, and the next step, as sentences; empty where they say nothing."""
    found = next((what for mark, what in SIGNATURES if start.startswith(mark)), None)
    if found is None and b"\0" in start:
        found = next((what for mark, what in ASCII_SIGNATURES if start.startswith(mark)), None)
    if start.startswith(b"PK\x03\x04"):
        packed = ("a zip archive", "Unpack it first: unzip {path}")
        found = SPREADSHEET if b"[Content_Types].xml" in start or path.suffix.lower() == ".xlsx" else packed
        found = NUMPY if path.suffix.lower() == ".npz" else found
    if start[257:262] == b"ustar":
        found = "a tar archive", "Unpack it first: tar xf {path}"
    if start[:3] == b"BZh" and start[4:10] == b"1AY&SY":
        found = "packed with bzip2", "Unpack it first: bzip2 -dk {path}"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and len(start) > 1:
        found = "a pickle of Python, which may run code", "Write the table as Parquet: frame.to_parquet(...)"
    if found is None:
        return ""
    what, step = found
    return f"{path} is {what}. {step.format(path=shlex.quote(str(path)))}."


def no_table(path: Path, lines: Sequence[str]) -> str:
    """What a text is that is surely no table, and the next step; empty where it may be one."""
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        return ""
    where = f"{path}, line 1"
    if texts[0].startswith("%%MatrixMarket"):
        return (
            f"{where}: a Matrix Market file, whose rows are numbered users and items. Take off its lines that begin "
            "with % and the line of sizes after them, and read the rest with --separator ' ' --columns user_id item_id "
            "value."
        )
    if any(SQL.match(text) for text in texts[:NEAR]):
        return f"{where}: a dump of a database in SQL. Load it there, and export the table as CSV."
    if MARKUP.match(texts[0]):
        return f"{where}: a page of HTML or XML, also where its name ends in .xls. Export the table as CSV."
    if _most(SPARSE, texts):
        return (
            f"{where}: sparse vectors (LIBSVM), a row each with pairs column:value. Write one row for each of the "
            "pairs, such as user_id,item_id,value."
        )
    return ""


def before_rows(path: Path, lines: Sequence[str]) -> str:
    """What stands before the rows of a table that is not understood, and the next step; empty for nothing found."""
    if found := no_table(path, lines):
        return found
    texts = [line.strip() for line in lines]
    first = next((text for text in texts if text), "")
    if RULE.fullmatch(first) or (len(texts) > 1 and RULE.fullmatch(texts[1]) and texts[0].startswith("|")):
        return (
            f"{path}, line 1: a table drawn with lines of characters. Export it as CSV instead (psql --csv, mysql "
            "--batch), or take off the drawn lines."
        )
    if place := _header(texts):
        taken = f"tail -n +{place + 1} {shlex.quote(str(path))} > NEW{path.suffix}"
        return (
            f"{path}: line {place + 1} looks like the header ({texts[place][:80]}). Take off what stands before it, "
            f"such as with: {taken}"
        )
    if mark := COMMENT.match(first):
        pattern = shlex.quote(f"^{mark[0]}")
        return (
            f"{path}, line {texts.index(first) + 1}: a comment ({first[:60]}). Take such lines off, such as with: grep "
            f"-v {pattern} {shlex.quote(str(path))} > NEW{path.suffix}"
        )
    if QUOTED.fullmatch(first):
        return (
            f"{path}, line 1: fields in single quotes ({first[:60]}), which are characters like any other. Write it "
            "with double quotes, or without."
        )
    if _most(KEYED, [text for text in texts if text]):
        return f"{path}: lines with parts such as name=value, as logs have. Write a table with one column for each."
    return ""


def matrix(path: Path, rows: Sequence[Sequence[str]]) -> str:
    """Whether rows of cells look like a matrix of users by items, in words; empty where they do not."""
    width = max(map(len, rows), default=0)
    if width < WIDE or len(rows) < 3:
        return ""
    columns = [[row[place].strip() for row in rows[1:] if len(row) > place] for place in range(1, width)]
    small = sum(all(_small(cell) for cell in column) for column in columns)
    if small < 0.95 * len(columns):
        return ""
    return (
        f"{path}: {width} columns that hold nothing but few small numbers or are empty: a matrix with a row for each "
        "user and a column for each item? Write one row for each rating, such as user_id,item_id,rating (in pandas "
        "melt, in R pivot_longer)."
    )


def _header(texts: Sequence[str]) -> int:
    """The place, from 1 on, of a line among the first that names users and items; 0 where there is none."""
    for place, text in enumerate(texts[1:NEAR], 1):
        for mark in (",", "\t", ";", "|", " "):
            cells = [cell.strip().strip('"').removeprefix("#").strip() for cell in text.split(mark)]
            found = guess_columns(cells)
            named = all(len(found.get(role, "")) > 3 for role in ("user_id", "item_id"))
            if named and len(cells) == len(set(cells)) and not any(map(str.isdigit, cells)):
                return place
    return 0


def _most(pattern: re.Pattern[str], texts: Sequence[str]) -> bool:
    return bool(texts) and sum(map(bool, map(pattern.fullmatch, texts))) >= 0.9 * len(texts)


def _small(cell: str) -> bool:
    try:
        return not cell or abs(float(cell)) <= 100
    except ValueError:
        return False
