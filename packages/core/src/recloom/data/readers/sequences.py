"""Sequence files: `user item` pairs in order (SASRec), or a user and its items a line (S3-Rec, LightGCN)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from ..card import Layout
from . import RawTables
from .attributes import read_side
from .evidence import LINES, Kind, Shape, shape_of
from .parts import joined_notes, part_files, part_of
from .text import content, encoding_notes, opening, rejections, whole_utf8

LAYOUTS = {
    "pairs": "`user item` pairs",
    "users": "one user a line",
    "items": "one line of items a user, who is called by the number of the line",
}


class Sequences:
    """Text files of sequences: `user item` rows, or one user and its items a line; order, no times.

    Args:
        items_path: files with item titles and attributes; an id map comes before the file it leads to.
        users_path: the same for users.
        title_column: column of titles in the file with item attributes, where the guess is wrong.
        layout: `pairs` of user and item a line, `users`, one user and its items a line, or `items`, items alone, the
            user being the number of the line; by default as it looks.
        encoding: of these and side files, such as `cp1252`; by default UTF-8, UTF-16, or a guess that is shown.
    """

    name: ClassVar[str] = "sequences"
    licence: ClassVar[str] = "as stated by the publisher of the files"
    url: ClassVar[str | None] = None

    def __init__(
        self,
        items_path: list[Path] | None = None,
        users_path: list[Path] | None = None,
        title_column: str | None = None,
        layout: Layout = "auto",
        encoding: str = "auto",
    ) -> None:
        self.items_path, self.users_path = items_path or [], users_path or []
        self.title_column, self.layout, self.encoding = title_column, layout, encoding

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether the first lines are sequences of ids and nothing else, such as rows of a table."""
        return sequence_shape(path).kind == "sequences"

    def read(self, path: Path) -> RawTables:
        """Read sequences; of a folder, train.txt and then test.txt, marked in column `part`."""
        files = sequence_files(path)
        layout = self.layout if self.layout != "auto" else _layout(files[0], self.encoding)
        notes: list[str] = []
        tables = [_read(file, layout, self.encoding, notes) for file in files]
        rows = [
            good.with_columns(pl.lit(place, pl.UInt16).alias("file"), pl.lit(_part(file)).alias("part"))
            for place, (file, (good, _)) in enumerate(zip(files, tables, strict=True))
        ]
        raw = RawTables(pl.concat(rows), files, rejected=pl.concat([bad for _, bad in tables]))
        if len(files) == 1:
            raw.interactions = raw.interactions.drop("part")
        raw.notes += [f"layout: {LAYOUTS[layout]}", *notes]
        shape = sequence_shape(path) if self.layout == "auto" else Shape("other")
        if shape.kind in ("table", "unclear"):
            raw.notes.append(
                f"it may be no file of sequences: {shape.why}. The reader `table` keeps columns apart"
            )
        if len(files) > 1:
            raw.notes += joined_notes(files)
        raw.encoding = self.encoding
        read_side(raw, "item_id", self.items_path, title=self.title_column, encoding=self.encoding)
        read_side(raw, "user_id", self.users_path, encoding=self.encoding)
        return raw


def sequence_shape(path: Path) -> Shape:
    """How the first lines of a file look; of train.txt and test.txt in a folder, as the one that tells most."""
    try:
        shapes = [shape_of(opening(file, LINES)) for file in sequence_files(path)]
    except DataError:
        return Shape("other")
    order: tuple[Kind, ...] = ("other", "table", "sequences", "unclear")  # files of one set are of one kind
    return min(shapes, key=lambda shape: order.index(shape.kind))


def sequence_files(path: Path) -> list[Path]:
    """The file itself, those of train and test in a folder, or its only .txt file. Raises DataError."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise DataError(f"{path} does not exist. Check --path.")
    texts = sorted(path.glob("*.txt"))
    sets = part_files(texts)
    alone = [file for file in texts if file.name in ("train.txt", "test.txt")]
    if len(sets) == 1:
        return sets[0]
    if not sets and len(alone) == 1:
        return alone
    if len(texts) != 1:
        raise DataError(
            f"{path} holds {len(texts)} .txt files; expected one, or train.txt and test.txt. "
            "Name the file in --path."
        )
    return texts


def _part(file: Path) -> str:
    found = part_of(file)
    return file.stem if found is None else found[0]


def _layout(path: Path, encoding: str) -> str:
    """`pairs` where every one of the first lines has exactly two ids."""
    return (
        "pairs"
        if all(len(line.split()) == 2 for line in opening(path, 1000, encoding) if line.strip())
        else "users"
    )


def _read(path: Path, layout: str, encoding: str, notes: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    opening(path, 1, encoding)
    lines = (
        _lines(path, encoding, notes).with_row_index("line", 1).with_columns(pl.col("line").cast(pl.UInt32))
    )
    nameless = layout == "items"
    cells = pl.col("text").str.extract_all(r"\S+")
    count = pl.col("cells").list.len()
    alone = pl.lit(False) if nameless else count == 1
    wrong = pl.when(count == 0).then(pl.lit("empty line")).when(alone).then(pl.lit("a user without items"))
    if layout == "pairs":
        wrong = wrong.when(count != 2).then(pl.format("{} fields instead of 2", count))
    wrong = wrong.when(pl.col("text").str.contains("\ufffd", literal=True)).then(pl.lit("not valid UTF-8"))
    lines = lines.with_columns(cells.alias("cells")).with_columns(wrong.alias("reason")).drop("text")
    bad = lines.filter(pl.col("reason").is_not_null())
    good = lines.filter(pl.col("reason").is_null())
    user = pl.col("line").cast(pl.String) if nameless else pl.col("cells").list.first()
    rows = good.select("line", user.alias("user_id"), pl.col("cells").list.slice(0 if nameless else 1))
    table = rejections(path, bad["line"], bad["reason"], encoding)
    return rows.explode("cells").select("user_id", pl.col("cells").alias("item_id"), "line"), table


def _lines(path: Path, encoding: str, notes: list[str]) -> pl.DataFrame:
    try:
        lines = pl.read_lines(content(path, encoding), name="text", glob=False)
        notes += encoding_notes(path, encoding)
    except pl.exceptions.ComputeError:  # not UTF-8: it is decoded, or the lines in question are rejected
        data, found = whole_utf8(path, encoding)
        notes += encoding_notes(path, encoding, found)
        lines = pl.read_lines(data, name="text")
    return lines.with_columns(pl.col("text").str.strip_prefix("\ufeff"))
