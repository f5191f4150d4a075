"""MovieLens in its layouts: `u.data` (100K), `ratings.dat` (1M, 10M), `ratings.csv` (20M and later).

F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, TiiS 5(4), 2015.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from . import RawTables
from .delimited import Delimited, guess_separator, header_of, keyed_rows, valid_rows
from .text import opening, table_files

RATING_TYPES: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "item_id": pl.String(),
    "value": pl.Float32(),
    "timestamp": pl.Int64(),
}
RATINGS = tuple(RATING_TYPES)
MOVIES = ("movies.csv", "movies.dat", "u.item")
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The 19 genre flags at the end of each row of `u.item`, in order."""


class MovieLens:
    """MovieLens ratings: 100K (`u.data`), 1M and 10M (`.dat`), 20M, 25M, 32M and latest (`.csv`)."""

    name: ClassVar[str] = "movielens"
    licence: ClassVar[str] = (
        "GroupLens: research use, no commercial use without permission; see the README of the set"
    )
    url: ClassVar[str | None] = None

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether one of the three ratings files is there; of tables beside it, one must be of movies."""
        found = _ratings_file(path)
        if found is None or not _looks_right(found):
            return False
        others = [] if path.is_file() else [file for file in table_files(path) if file.suffix == ".csv"]
        return len(others) < 2 or any((path / name).is_file() for name in MOVIES)

    def read(self, path: Path) -> RawTables:
        """Read ratings, movies and, where the set has them, users."""
        ratings = _ratings_file(path)
        if ratings is None:
            raise DataError(
                f"{path}: no MovieLens ratings found. Expected ratings.csv, ratings.dat or u.data there "
                "(a folder or the file itself)."
            )
        layout = _layout(ratings)
        frame, lossy = layout.read(RATING_TYPES)
        good, bad = valid_rows(frame, layout, lossy, ("user_id", "item_id"))
        raw = RawTables(good, [ratings], rejected=bad, notes=[f"ratings: {ratings.name}", *layout.notes])
        _add_movies(raw, ratings.parent)
        _add_users(raw, ratings.parent)
        return raw


def _ratings_file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.name in ("ratings.csv", "ratings.dat", "u.data") else None
    found = [path / name for name in ("ratings.csv", "ratings.dat", "u.data") if (path / name).is_file()]
    return found[0] if found else None


def _looks_right(path: Path) -> bool:
    marks = {"ratings.csv": "userId,movieId,rating,timestamp", "ratings.dat": "::", "u.data": "\t"}
    try:
        return marks[path.name] in opening(path, 1)[0]
    except DataError:
        return False


def _layout(path: Path) -> Delimited:
    first = opening(path, 1)[0]
    if path.name == "u.data":
        return Delimited(path, RATINGS, "\t", header=False, quote=None)
    if path.name == "ratings.dat":
        return Delimited(path, RATINGS, "::", header=False, quote=None)
    header = header_of(path, ",")
    expected = ("userId", "movieId", "rating", "timestamp")
    if header == expected:
        return Delimited(path, RATINGS)
    if guess_separator(path) != ",":
        raise DataError(
            f"{path}, line 1: expected {','.join(expected)}, found {first!r}. The separator is "
            f"{guess_separator(path)!r}: use the reader `table` with --separator {guess_separator(path)!r}."
        )
    raise DataError(
        f"{path}, line 1: expected the header {','.join(expected)}, found {first!r}. If the header row is "
        "missing, use the reader `table` with --columns user_id,item_id,value,timestamp."
    )


def _add_movies(raw: RawTables, folder: Path) -> None:
    for name, read in zip(MOVIES, (movies_csv, movies_dat, u_item), strict=True):
        if (folder / name).is_file():
            raw.items, rejected = read(folder / name, raw.notes)
            raw.rejected_items = pl.concat([raw.rejected_items, rejected])
            raw.files.append(folder / name)
            raw.notes.append(f"movies: {name}, {raw.items.height:,} titles")
            return
    raw.notes.append("no movies.csv, movies.dat or u.item beside the ratings: the items have no titles")


def movies_csv(path: Path, notes: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`movies.csv`: item_id, title, genres (separated by `|`). `notes`: what had to be assumed."""
    return _movies(Delimited(path, ("item_id", "title", "genres"), notes=notes))


def movies_dat(path: Path, notes: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`movies.dat`, Latin-1: item_id, title, genres (separated by `|`)."""
    return _movies(Delimited(path, ("item_id", "title", "genres"), "::", False, None, _encoding(path), notes))


def _encoding(path: Path) -> str:
    """UTF-8 where the file is valid UTF-8 (10M), else Latin-1 (100K, 1M)."""
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _movies(layout: Delimited) -> tuple[pl.DataFrame, pl.DataFrame]:
    movies, bad = keyed_rows(layout, "item_id", ("title", "genres"))
    return movies.with_columns(pl.col("genres").replace("(no genres listed)", None)), bad


def u_item(path: Path, notes: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`u.item`, Latin-1: item_id, title, release date, genres from the 19 flags."""
    names = ("item_id", "title", "release_date", "video_date", "url", *GENRES)
    layout = Delimited(path, names, "|", False, None, _encoding(path), notes)
    movies, bad = keyed_rows(layout, "item_id", ("title", "release_date", *GENRES))
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    genres = pl.concat_str(flags, separator="|", ignore_nulls=True).replace("", None).alias("genres")
    return movies.select("item_id", "title", "release_date", genres), bad


def _add_users(raw: RawTables, folder: Path) -> None:
    files = {
        "users.dat": ("::", ("user_id", "gender", "age", "occupation", "zip_code")),
        "u.user": ("|", ("user_id", "age", "gender", "occupation", "zip_code")),
    }
    for name, (separator, columns) in files.items():
        if not (folder / name).is_file():
            continue
        layout = Delimited(folder / name, columns, separator, False, None, notes=raw.notes)
        raw.users, bad = keyed_rows(layout, "user_id", columns[1:])
        raw.rejected_items = pl.concat([raw.rejected_items, bad])
        raw.files.append(folder / name)
