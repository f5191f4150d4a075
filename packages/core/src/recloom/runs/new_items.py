"""A file of items that a trained run does not know yet."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ..data.catalog import VECTOR, Catalog
from ..data.readers.plain_table import read_table
from ..errors import DataError


def read_new_items(path: Path, catalog: Catalog) -> pl.DataFrame:
    """`item_id` and some of the attributes that the catalogue has, with its types; one row for each new item.

    A column that the file lacks is empty for the new items. Raises DataError where the file cannot be read or
    holds no item, and for an unknown column, a value of another type, an empty id, one that stands there twice,
    or one that the catalogue has already.
    """
    table = read_table(path)
    known = [name for name in catalog.items.columns if name != VECTOR]
    if "item_id" not in table.columns:
        raise DataError(f"{path} has no column item_id; it has {', '.join(table.columns) or 'none'}")
    unknown = [name for name in table.columns if name not in known]
    if unknown:
        told = "; vectors are given with --vectors" if unknown[0] == VECTOR else ""
        raise DataError(
            f"{path}: column {unknown[0]!r} is not one of the items of this run{told}. They have {', '.join(known)}. "
            "Rename the column, or leave it out."
        )
    items = _typed(path, table, catalog)
    _check_ids(path, items["item_id"], catalog)
    return items


def _typed(path: Path, table: pl.DataFrame, catalog: Catalog) -> pl.DataFrame:
    columns = []
    for name in table.columns:
        kind = catalog.items.schema[name]
        try:
            columns.append(table[name].cast(kind))
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"{path}: column {name!r} must hold {kind} as in the items of this run; found {table[name].dtype}. "
                f"{str(error).splitlines()[0]}"
            ) from error
    return pl.DataFrame(columns)


def _check_ids(path: Path, ids: pl.Series, catalog: Catalog) -> None:
    if not len(ids):
        raise DataError(f"{path} holds no item")
    empty = ids.fill_null("").str.strip_chars() == ""
    if empty.any():
        raise DataError(f"{path}: row {int(empty.arg_max() or 0) + 1} has no item_id")
    if ids.is_duplicated().any():
        raise DataError(
            f"{path}: item {ids.filter(ids.is_duplicated())[0]!r} stands there twice. Keep one row."
        )
    old = ids.filter(pl.Series(catalog.item_index(ids) > 0))
    if len(old):
        raise DataError(
            f"{path}: the run knows {len(old):,} of these {len(ids):,} items already, the first {old[0]!r}. What it "
            "learnt of them stays; leave them out."
        )
