"""Item and user attributes in files of their own, possibly reached through a map of ids."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ...errors import DataError
from . import RawTables, no_rejections
from .delimited import Delimited, guess_separator, header_of, keyed_rows
from .movielens import movies_csv, movies_dat
from .text import opening

KEYS = {
    "item_id": (
        "item_id",
        "itemid",
        "item",
        "movieid",
        "id",
        "asin",
        "parent_asin",
        "news_id",
        "product_id",
        "iid",
    ),
    "user_id": ("user_id", "userid", "user", "id", "reviewerid", "uid"),
}
TITLES = ("title", "name", "item_title", "product_title")
USERS_DAT = ("user_id", "gender", "age", "occupation", "zip_code")


def read_side(raw: RawTables, key: str, paths: list[Path]) -> None:
    """Fill `raw.items` or `raw.users` from files; an id map (two columns, no header) leads to the next file.

    Args:
        key: `item_id` or `user_id`.
    """
    if not paths:
        return
    *maps, last = paths
    table, rejected = _attributes(last, key)
    for path in reversed(maps):
        table = _read_map(path, key).join(
            table.rename({key: "original_id"}), on="original_id", how="left", maintain_order="left"
        )
    raw.files += paths
    raw.rejected_items = pl.concat([raw.rejected_items, rejected])
    ids = raw.interactions.select(key).unique()
    raw.notes.append(
        f"{last.name}: {ids.join(table, on=key, how='semi').height:,} of {ids.height:,} ids found"
    )
    if key == "item_id":
        raw.items = table
    else:
        raw.users = table


def _attributes(path: Path, key: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A table keyed by `key`: MovieLens files by name, any other by its header."""
    opening(path, 1)
    if key == "item_id" and path.name in ("movies.dat", "movies.csv"):
        return movies_dat(path) if path.suffix == ".dat" else movies_csv(path)
    if path.name == "users.dat":
        return keyed_rows(Delimited(path, USERS_DAT, "::", False, None), key, USERS_DAT[1:])
    if path.suffix == ".parquet":
        return _parquet(path, key)
    separator = guess_separator(path)
    names = _names(path, header_of(path, separator), key)
    layout = Delimited(path, names, separator, quote=None if separator == "\t" else '"')
    return keyed_rows(layout, key, [name for name in names if name != key])


def _names(path: Path, header: tuple[str, ...], key: str) -> tuple[str, ...]:
    """The header with the id column called `key` and the title column called `title`."""
    lower = [name.lower() for name in header]
    found = next((name for name in KEYS[key] if name in lower), None)
    if found is None:
        raise DataError(
            f"{path}, line 1: no column of ids; expected one of {', '.join(KEYS[key])}, "
            f"found {', '.join(header)}. "
            "Rename the column, or add a header row."
        )
    title = next((name for name in TITLES if name in lower), None)
    renamed = {lower.index(found): key} | ({lower.index(title): "title"} if title else {})
    return tuple(renamed.get(place, name) for place, name in enumerate(header))


def _parquet(path: Path, key: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    frame = pl.read_parquet(path, glob=False)
    frame.columns = list(_names(path, tuple(frame.columns), key))
    table = frame.select(pl.col(key).cast(pl.String), pl.exclude(key))
    if table[key].is_duplicated().any():
        twice = table.filter(pl.col(key).is_duplicated())[key][0]
        raise DataError(f"{path}: {key} {twice!r} stands in two rows. Keep one row per id.")
    return table, no_rejections()


def _read_map(path: Path, key: str) -> pl.DataFrame:
    """Two columns without a header: the id of the interactions, the id of the next file."""
    separator = guess_separator(path)
    frame, _ = Delimited(path, (key, "original_id"), separator, False, None).read(
        {key: pl.String(), "original_id": pl.String()}
    )
    bad = frame.filter(
        pl.any_horizontal(pl.col(key, "original_id").is_null()) | pl.col("__extra").is_not_null()
    )
    if bad.height:
        raise DataError(
            f"{path}, line {bad['line'][0]}: an id map has two ids a line, such as `1 1198`. Give the file "
            "with attributes last in --items-path or --users-path."
        )
    again = frame.filter(~pl.col(key).is_first_distinct())
    if again.height:
        raise DataError(
            f"{path}, line {again['line'][0]}: the id {again[key][0]!r} is mapped twice. Keep one line."
        )
    return frame.select(key, "original_id")
