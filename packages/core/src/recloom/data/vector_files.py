"""Files of vectors: how they are named on the command line, read, and laid beside the items of a catalogue."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..errors import DataError

Table = pl.DataFrame
VECTOR = "vector"
"""The column of the items, and that of the users, that holds vectors."""
UNNAMED = ""
"""The name of the one file that was given without a name."""
NAMED = re.compile(r"([A-Za-z_]\w*)=(.+)")


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of the items of a catalogue under a name.

    Attributes:
        values: (num_items,) a list of float32 for each item; null where it has none.
        encoder: what made them, as their file says; empty where it does not.
    """

    values: pl.Series
    encoder: str = ""


def named_files(words: Sequence[str]) -> str | dict[str, str]:
    """One file, or files by name, from words such as `text=FILE image=FILE`.

    A word that is the path of a file is one, whatever stands in it. Raises DataError for several files without
    names, and for a name that stands there twice.
    """
    found: dict[str, str] = {}
    for word in words:
        named = None if Path(word).is_file() else NAMED.fullmatch(word)
        name, path = (named[1], named[2]) if named else (UNNAMED, word)
        if name in found:
            twice = f"two are called {name!r}" if name else f"{found[name]} and {path} have none"
            raise DataError(
                f"several files of vectors need names of their own, such as text=FILE image=FILE; {twice}"
            )
        found[name] = path
    return found[UNNAMED] if set(found) == {UNNAMED} else found


def files_by_name(given: Any) -> dict[str, str]:
    """What `named_files` gives, by name; empty for None."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): str(path) for name, path in given.items()}
    return {UNNAMED: str(given)}


def vector_matrix(column: pl.Series) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(rows + 1, size) float32 of a column of vectors; row 0 and rows without one are zero."""
    filled = column.drop_nulls()
    given = np.asarray(filled.to_list() if len(filled) else [[]], dtype=np.float32)
    found = np.zeros((len(column) + 1, given.shape[1]), np.float32)
    found[1 + np.flatnonzero(column.is_not_null().to_numpy())] = given if len(filled) else 0
    return found


def with_vector_column(table: Table, key: str, path: Path) -> Table:
    """A table of a catalogue with the vectors of a file as its column `vector`; null where the file has none."""
    joined = table.drop(VECTOR, strict=False).join(
        read_vectors(path, key), on=key, how="left", maintain_order="left"
    )
    if joined[VECTOR].null_count() == len(table):
        things = key.removesuffix("_id") + "s"
        raise DataError(f"{path} holds no vector of any of the {len(table):,} {things} of this dataset")
    return joined


def read_vectors(path: Path, key: str) -> Table:
    """The columns `key` and `vector` of a Parquet file, as `recloom embed` writes it.

    Raises DataError where it is not one, holds a number that is not finite, vectors of several sizes or an id twice.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a Parquet file of {key} and vector, found no such file")
    try:
        table = pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    if not {key, VECTOR} <= set(table.columns):
        raise DataError(f"{path} must have the columns {key} and vector; found {', '.join(table.columns)}")
    lists = table[VECTOR].dtype
    if not isinstance(lists, pl.List | pl.Array) or not lists.inner.is_numeric():
        raise DataError(f"{path}: column vector must hold lists of numbers; found {lists}")
    table = table.select(pl.col(key).cast(pl.String), pl.col(VECTOR).cast(pl.List(pl.Float32))).drop_nulls()
    if table[key].n_unique() < len(table):
        twice = table[key].filter(table[key].is_duplicated())[0]
        raise DataError(f"{path} holds {key.removesuffix('_id')} {twice!r} twice")
    sizes = table[VECTOR].list.len().unique()
    if len(sizes) != 1 or not sizes[0]:
        raise DataError(
            f"{path}: all vectors must have one size above 0; found {sorted(sizes.to_list()) or 'no vector'}"
        )
    if not table[VECTOR].explode().is_finite().all():
        raise DataError(f"{path}: a vector holds a number that is not finite")
    return table
