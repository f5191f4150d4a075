"""Item and user attributes in files of their own, possibly reached through a map of ids."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from ...errors import DataError
from ..card import Quote
from . import RawTables, no_rejections
from .delimited import OWN, Delimited, guess_separator, header_of, keyed_rows, placed_names, stripped_ids
from .jsonlines import json_keys, read_json_lines
from .movielens import movies_csv, movies_dat
from .text import first_of_each, kind_of, opening, rejections
from .unused import TITLES
from .values import ROLES, part_rows, plain_name, row_checks, untyped, whole_ids, whole_keys

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
FLAGS = {"item_id": "--item-column", "user_id": "--user-column"}
SIDE = {"item_id": "--items-path", "user_id": "--users-path"}
"""Options that name the files."""
ADDED = {"item_id": (), "user_id": ("num_interactions",)}
"""Columns that a prepared dataset adds to those of a side file."""
ALL = 100_000
"""Objects of a JSON file whose keys are columns."""
USERS_DAT = ("user_id", "gender", "age", "occupation", "zip_code")


def read_side(
    raw: RawTables,
    key: str,
    paths: Sequence[Path],
    column: str | None = None,
    title: str | None = None,
    *,
    quote: Quote = "auto",
    encoding: str = "auto",
) -> None:
    """Fill `raw.items` or `raw.users` from files; an id map (two columns, no header) leads to the next file.

    Delimited text of any separator, JSON lines, a JSON array or Parquet; text may be packed (.gz).

    Args:
        key: `item_id` or `user_id`.
        paths: the files; none of them = nothing is filled.
        column: of these ids in the interactions; it is looked for here too.
        title: column of titles in the last file, where the guess is wrong.
        quote: what quotes mean in the last file.
        encoding: of the files.
    """
    if not paths:
        return
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} is not a file. Check {SIDE[key]}.")
    *maps, last = paths
    table, rejected = _attributes(last, key, column, title, quote, encoding, raw.notes)
    texts = [name for name in table.columns if name != key and _holds_text(table[name])]
    for path in reversed(maps):
        table.columns = [*placed_names(table.columns, {0: "original_id"})]
        table = _read_map(path, key, encoding).join(
            table, on="original_id", how="left", maintain_order="left"
        )
    raw.interactions = whole_ids(raw.interactions, key, raw.notes)
    table = whole_keys(table, key, raw.notes)
    raw.files += paths
    raw.rejected_items = pl.concat([raw.rejected_items, rejected])
    ids = raw.interactions.select(key).unique()
    raw.notes.append(
        f"{last.name}: {ids.join(table, on=key, how='semi').height:,} of {ids.height:,} ids found"
    )
    if key == "item_id":
        raw.items = table
        if "title" not in table.columns and texts:
            raw.notes.append(
                f"{last.name}: none of {', '.join(texts)} was taken for the title of an item. Where one is, name it: "
                f"--title-column {shlex.quote(texts[0])}"
            )
    else:
        raw.users = table


def _holds_text(values: pl.Series) -> bool:
    """Whether most values are no numbers."""
    sample = values.drop_nulls().head(100)
    if sample.dtype != pl.String or not len(sample):
        return False
    numbers = sample.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    return 2 * numbers.null_count() > len(sample)


def _attributes(
    path: Path,
    key: str,
    column: str | None,
    title: str | None,
    quote: Quote,
    encoding: str,
    notes: list[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A table keyed by `key`: MovieLens files by name, any other by its header."""
    kind = kind_of(path, encoding) if path.is_file() else "delimited"
    if kind == "parquet":
        return _parquet(path, key, column, title, notes)
    opening(path, 1, encoding)
    if title is None and key == "item_id" and path.name in ("movies.dat", "movies.csv"):
        return movies_dat(path, notes) if path.suffix == ".dat" else movies_csv(path, notes)
    if path.name == "users.dat":
        layout = Delimited(path, USERS_DAT, "::", False, None, encoding, notes)
        return keyed_rows(layout, key, USERS_DAT[1:])
    if kind == "json":
        return _json(path, key, column, title, encoding, notes)
    separator = guess_separator(path, encoding)
    header = header_of(path, separator, quote, encoding)
    names = _names(path, header, key, column, title)
    layout = Delimited(path, names, separator, quote=quote, encoding=encoding, notes=notes)
    return keyed_rows(layout, key, [name for name in names if name != key])


def _json(
    path: Path, key: str, column: str | None, title: str | None, encoding: str, notes: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    keys = json_keys(path, encoding, ALL)
    names = dict(zip(keys, _names(path, tuple(keys), key, column, title), strict=True))
    frame, broken = read_json_lines(path, names, python_literals=True, encoding=encoding, notes=notes)
    frame = stripped_ids(path, frame, [key], notes)
    good, failed = part_rows(frame, row_checks({}, (key,)))
    table, again = first_of_each(good, key, path, encoding)
    bad = rejections(path, failed["line"], failed["reason"], encoding)
    return table.drop("line").select(key, pl.exclude(key)), pl.concat([broken, bad, again])


def _names(
    path: Path, header: tuple[str, ...], key: str, column: str | None, title: str | None
) -> tuple[str, ...]:
    """The header with the id column called `key` and the title column called `title`.

    Another column of such a name is called `other_...`. RecBole's types (`title:token_seq`) are no part of names.
    """
    header = tuple(map(untyped, header))
    column, title = (None if name is None else untyped(name) for name in (column, title))
    found = key_place(header, key, column)
    if found is None:
        usual = [*([column] if column else []), *KEYS[key]]
        raise DataError(
            f"{path}, line 1: no column of ids; expected one of {', '.join(dict.fromkeys(usual))}, "
            f"found {', '.join(header)}. "
            f"Rename the column to that of the interactions ({FLAGS[key]}), or add a header row."
        )
    place = _first(header, [title]) if title is not None else title_place(header)
    if title is not None and place is None:
        raise DataError(f"{path} has no column {title!r} (--title-column). It has {', '.join(header)}.")
    if title is not None and place == found:
        raise DataError(
            f"{path}: {title!r} (--title-column) is the column of ids. Name another column, or none."
        )
    named = {found: key}
    if place is not None and place != found:
        named[place] = "title"
    return placed_names(header, named, (*OWN, *ADDED[key]))


def key_place(header: Sequence[str], key: str, column: str | None) -> int | None:
    """The place of the column of ids in a header: called as that of the interactions, or by a usual name; or None."""
    ids = [name for name in ROLES[key] if name.endswith("id")]
    usual = [*([column] if column else []), *KEYS[key]]
    return _first(header, dict.fromkeys([*usual, *ids]))


def title_place(header: Sequence[str]) -> int | None:
    """The place of the column of titles in a header, by its name; None where there is none."""
    return _first(header, TITLES)


def _first(header: Sequence[str], usual: Iterable[str]) -> int | None:
    """The place of the first of the usual names, as it is written or else as names are compared."""
    plain = [plain_name(name) for name in header]
    places = (names.index(wanted) for wanted in usual for names in (list(header), plain) if wanted in names)
    return next(places, None)


def _parquet(
    path: Path, key: str, column: str | None, title: str | None, notes: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    frame = pl.read_parquet(path, glob=False)
    frame.columns = list(_names(path, tuple(frame.columns), key, column, title))
    table = stripped_ids(path, frame.select(pl.col(key).cast(pl.String), pl.exclude(key)), [key], notes)
    if table[key].is_duplicated().any():
        twice = table.filter(pl.col(key).is_duplicated())[key][0]
        raise DataError(f"{path}: {key} {twice!r} stands in two rows. Keep one row per id.")
    return table, no_rejections()


def _read_map(path: Path, key: str, encoding: str) -> pl.DataFrame:
    """Two columns without a header: the id of the interactions, the id of the next file."""
    layout = Delimited(path, (key, "original_id"), guess_separator(path, encoding), False, None, encoding)
    frame, _ = layout.read({key: pl.String(), "original_id": pl.String()})
    bad = frame.filter(
        pl.any_horizontal(pl.col(key, "original_id").is_null()) | pl.col("__extra").is_not_null()
    )
    if bad.height:
        raise DataError(
            f"{path}, line {bad['line'][0]}: an id map has two ids a line, such as `1 1198`. Give the file "
            f"with attributes last in {SIDE[key]}."
        )
    again = frame.filter(~pl.col(key).is_first_distinct())
    if again.height:
        raise DataError(
            f"{path}, line {again['line'][0]}: the id {again[key][0]!r} is mapped twice. Keep one line."
        )
    return frame.select(key, "original_id")
