"""The tensors of requests: put together for one run, and cut apart again.

Shapes: B rows of one request, R rows of all, L any width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..artifact.ids import DTYPES, PADDING, Array, IdKind
from .http_errors import Refused

Given = dict[str, Array]
"""Inputs of an artefact by name, but `k`."""
TIMES = ("history_time", "request_time")
CELLS = 1 << 20
"""Ids of a table, or places of all lists, beyond which requests do not run together; one alone may not either."""


def complete(given: Given, inputs: Sequence[str], kind: IdKind) -> Given:
    """The inputs of an artefact, in order: what may be left out is empty."""
    rows = len(given["history"])
    nothing: Array = np.empty((rows, 0), DTYPES[kind])
    blank = {"blocked": nothing, "allowed": nothing, "user": np.full(rows, PADDING[kind], DTYPES[kind])}
    return {name: given[name] if name in given else blank[name] for name in inputs if name != "k"}


def width(given: Given) -> int:
    """The largest L."""
    return max((array.shape[1] for array in given.values() if array.ndim == 2), default=0)


def check_size(given: Given, k: int) -> None:
    """Refused where the tables or the lists of one request are too large."""
    rows = len(given["history"])
    for name, array in given.items():
        check_places(name, array.size)
    if rows * k > CELLS:
        raise Refused(
            f"{rows:,} lists of k = {k:,} are {rows * k:,} places; expected {CELLS:,} at most. Ask for fewer"
        )


def check_places(name: str, places: int) -> None:
    """Refused for a table of too many ids."""
    if places > CELLS:
        raise Refused(
            f"{name} has {places:,} places with its padding; expected {CELLS:,} at most. Send fewer or shorter "
            "requests at a time"
        )


def merged(parts: Sequence[Given], kind: IdKind) -> Given:
    """Requests of the same inputs as one, rows in order, tables aligned right: (R, L) and (R,)."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: _stacked([part[name] for part in parts], 0 if name in TIMES else PADDING[kind])
        for name in parts[0]
    }


def _stacked(arrays: Sequence[Array], blank: str | int) -> Array:
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    wide = max(array.shape[1] for array in arrays)
    table: Array = np.full((sum(map(len, arrays)), wide), blank, dtype=arrays[0].dtype)
    start = 0
    for array in arrays:  # one step a request, whatever its rows
        table[start : start + len(array), wide - array.shape[1] :] = array
        start += len(array)
    return table
