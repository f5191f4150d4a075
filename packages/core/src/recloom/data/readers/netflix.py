"""The Netflix prize: `mv_0000001.txt` and its like, one file a movie, or `combined_data_1.txt` and its like.

J. Bennett and S. Lanning, The Netflix Prize, KDD Cup and Workshop 2007. A line `1:` names a movie, the lines after it
are `user,rating,2005-09-06`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from . import RawTables, no_rejections
from .text import content, first_of_each, opening, rejections
from .values import part_rows, row_checks

NAMES = re.compile(r"(mv_\d+|combined_data_\d+)\.txt(\.gz)?")
MOVIE = re.compile(r"\d+:")
RATING = re.compile(r"\d+,\d+,\d{4}-\d\d-\d\d")
TITLES = ("movie_titles.csv", "movie_titles.txt")


class Netflix:
    """Netflix prize: a folder of mv_*.txt or combined_data_*.txt, or one such file, with movie_titles beside."""

    name: ClassVar[str] = "netflix"
    licence: ClassVar[str] = (
        "Netflix prize: non-commercial research; withdrawn by Netflix, see the README of the set"
    )
    url: ClassVar[str | None] = None

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether the first file begins with the line of a movie and a rating after it."""
        try:
            lines = opening(_files(path)[0], 2)
        except DataError:
            return False
        return len(lines) == 2 and bool(
            MOVIE.fullmatch(lines[0].strip()) and RATING.fullmatch(lines[1].strip())
        )

    def read(self, path: Path) -> RawTables:
        """Read all ratings, and the titles of movies where they are beside them or one folder up."""
        files = _files(path)
        tables = [_read(file, place) for place, file in enumerate(files)]
        rejected = pl.concat([no_rejections(), *(bad for _, bad in tables)])
        notes = [
            f"ratings: {len(files)} file{'s' * (len(files) > 1)} in which a line such as `1:` names the movie"
        ]
        raw = RawTables(pl.concat([good for good, _ in tables]), files, rejected=rejected, notes=notes)
        _add_titles(raw, files[0].parent)
        return raw


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for folder in (path, path / "training_set"):
        found = sorted(file for file in folder.glob("*.txt*") if NAMES.fullmatch(file.name))
        if found:
            return found
    raise DataError(
        f"{path} holds no mv_*.txt or combined_data_*.txt, as the Netflix prize has. Check --path."
    )


def _read(path: Path, place: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    opening(path, 1)
    lines = pl.read_lines(content(path), name="text", glob=False).with_row_index("line", 1)
    text = pl.col("text").str.strip_chars()
    names = text.str.contains(r"^\d+:$")
    cells = text.str.split_exact(",", 3).struct
    rows = lines.select(
        pl.col("line").cast(pl.UInt32), names.alias("is_movie"),
        cells.field("field_0").replace("", None).alias("user_id"),
        pl.when(names).then(text.str.strip_suffix(":")).forward_fill().alias("item_id"),
        cells.field("field_1").cast(pl.Float32, strict=False).alias("value"),
        cells.field("field_2").str.to_datetime("%Y-%m-%d", strict=False).dt.epoch("s").alias("timestamp"),
        cells.field("field_3").alias("more"),
    ).filter(~pl.col("is_movie")).drop("is_movie")  # fmt: skip
    checks = row_checks(rows.schema, ("item_id", "user_id"))
    good, failed = part_rows(rows, [(pl.col("more").is_not_null(), "more than 3 fields"), *checks])
    bad = rejections(path, failed["line"], failed["reason"])
    return good.drop("more").with_columns(pl.lit(place, pl.UInt16).alias("file")), bad


def _add_titles(raw: RawTables, folder: Path) -> None:
    found = [up / name for up in (folder, folder.parent) for name in TITLES if (up / name).is_file()]
    if not found:
        raw.notes.append(
            "no movie_titles.csv or movie_titles.txt beside the ratings: the items have no titles"
        )
        return
    data = found[0].read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:  # as Netflix wrote them
        text = data.decode("latin-1")
    lines = pl.read_lines(text.encode(), name="text").with_row_index("line", 1)
    parts = pl.col("text").str.splitn(",", 3).struct  # titles hold commas
    titles = lines.select(
        pl.col("line").cast(pl.UInt32), parts.field("field_0").replace("", None).alias("item_id"),
        parts.field("field_2").alias("title"), parts.field("field_1").replace("NULL", None).alias("year"),
    )  # fmt: skip
    good, failed = part_rows(titles, [*row_checks({}, ("item_id",)), (pl.col("title").is_null(), "no title")])
    good, again = first_of_each(good, "item_id", found[0])
    raw.items = good.drop("line")
    raw.rejected_items = pl.concat(
        [raw.rejected_items, rejections(found[0], failed["line"], failed["reason"]), again]
    )
    raw.files.append(found[0])
    raw.notes.append(f"movies: {found[0].name}, {raw.items.height:,} titles")
