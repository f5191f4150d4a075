"""Numbers of compressed tables without header. What is refused is named with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from recloom.errors import DataError
from torch import Tensor

LARGEST = 2**31 - 1
"""Of whole numbers: they count or number something that a file holds."""
Numbers = np.ndarray[Any, np.dtype[np.float64]]


def read_table(path: Path) -> pl.DataFrame:
    """A table; one without lines has no columns either.

    Raises DataError where it is absent, damaged, or holds no numbers.
    """
    try:
        table = pl.read_csv(path, has_header=False, infer_schema_length=None)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except pl.exceptions.NoDataError as error:
        if not path.stat().st_size:  # what compresses to nothing has a header of its own
            raise DataError(
                f"{path} is an empty file; expected a compressed table. Fetch it again."
            ) from error
        return pl.DataFrame()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as a compressed table ({error}). Fetch it again.") from error
    wrong = [column.dtype for column in table if not column.dtype.is_numeric() and column.count()]
    if wrong:
        raise DataError(f"{path} holds values of type {wrong[0]}; expected numbers without a header")
    return table


def whole_numbers(
    path: Path, columns: int | None = None, largest: int | None = None, missing: bool = False
) -> Tensor:
    """(N, C) int64 from 0 on, see `whole`."""
    return whole(path, read_table(path), columns, largest, missing)


def whole(
    path: Path,
    table: pl.DataFrame,
    columns: int | None = None,
    largest: int | None = None,
    missing: bool = False,
) -> Tensor:
    """(N, C) int64 from 0 on.

    Args:
        path: where the table was read.
        table: numbers.
        columns: how many there must be; None = any.
        largest: number that is accepted, by default `LARGEST`.
        missing: whether a number may be left out, and is -1.

    Raises DataError where the table holds something else.
    """
    if len(table) and columns not in (None, table.width):
        raise DataError(f"{path} has {table.width} columns; expected {columns}. Fetch it again.")
    most = LARGEST if largest is None else largest
    values = _values(table)
    right = (values >= 0) & (values <= most) & (values == np.floor(values))
    _refuse(path, values, right | (np.isnan(values) & missing), f"a whole number from 0 to {most:,}")
    if not len(table):
        return torch.zeros(0, columns or 0, dtype=torch.long)
    return torch.from_numpy(np.nan_to_num(values, nan=-1).astype(np.int64))


def finite(path: Path, table: pl.DataFrame) -> Tensor:
    """(N, C) float32. Raises DataError where a number is left out, or is not finite as float32."""
    with np.errstate(over="ignore"):
        values = _values(table).astype(np.float32)
    _refuse(path, values, np.isfinite(values), "a finite number")
    return torch.from_numpy(values)


def _values(table: pl.DataFrame) -> Numbers:
    """(N, C), NaN where nothing stands; whole numbers up to 2 ** 53 are exact."""
    found: Numbers = table.cast(pl.Float64).to_numpy() if len(table) else np.zeros((0, 0))
    return found


def _refuse(path: Path, values: np.ndarray[Any, Any], right: np.ndarray[Any, Any], expected: str) -> None:
    if right.all():
        return
    row, column = np.argwhere(~right)[0]
    value = values[row, column]
    found = "no number" if np.isnan(value) else f"{value:.15g}"
    raise DataError(
        f"{path}, line {row + 1}, column {column + 1}: found {found}; expected {expected}. Mend that line, or fetch "
        "the file again."
    )
