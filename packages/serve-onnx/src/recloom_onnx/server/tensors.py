"""The inputs of requests as arrays: limits of their size, and one batch from several requests.

Shapes: B rows of one request, R rows of all, L any width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..artifact.ids import PADDING, Array, IdKind
from .http_errors import HttpError

Inputs = dict[str, Array]
"""Inputs of an artefact by name, but `k`."""
DEFAULT_K = 10
"""Length of the lists where a request does not say."""
TIMES = ("history_time", "request_time")
MAX_CELLS = 1 << 20
"""Ids of a table, or places of all lists, beyond which requests do not run together; one alone may not either."""


def width(inputs: Inputs) -> int:
    """The largest L."""
    return max((array.shape[1] for array in inputs.values() if array.ndim == 2), default=0)


def check_size(cells: Mapping[str, int], rows: int, k: int) -> None:
    """Refuse tables or lists that are too large.

    Args:
        cells: of each table, padding included.
        rows: lists that are asked for.
        k: their length.

    Raises HttpError.
    """
    for name, size in cells.items():
        if size > MAX_CELLS:
            raise HttpError(
                f"{name} has {size:,} places with its padding; expected {MAX_CELLS:,} at most. Send fewer or shorter "
                "requests at a time"
            )
    if rows * k > MAX_CELLS:
        raise HttpError(
            f"{rows:,} lists of k = {k:,} are {rows * k:,} places; expected {MAX_CELLS:,} at most. Ask for fewer"
        )


def merged(parts: Sequence[Inputs], kind: IdKind) -> Inputs:
    """Requests of the same inputs as one, rows in order, tables aligned right: (R, L) and (R,)."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: _stacked([part[name] for part in parts], _blank(name, array, kind))
        for name, array in parts[0].items()
    }


def _blank(name: str, array: Array, kind: IdKind) -> Any:
    """What fills a table on the left."""
    if name in TIMES:
        return 0
    if name == "history_event":
        return "" if array.dtype == object else np.nan
    return PADDING[kind]


def _stacked(arrays: Sequence[Array], blank: Any) -> Array:
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    wide = max(array.shape[1] for array in arrays)
    if all(array.shape[1] == wide for array in arrays):
        return np.concatenate(arrays)
    table: Array = np.full((sum(map(len, arrays)), wide), blank, dtype=arrays[0].dtype)
    start = 0
    for array in arrays:  # one step a request, whatever its rows
        table[start : start + len(array), wide - array.shape[1] :] = array
        start += len(array)
    return table
