"""Raw ids as arrays: text, or the integers that text spells."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
from recloom.errors import RecloomError

IdKind = Literal["string", "integer"]
"""How raw ids go into an artefact and come out of it: as text, or as int64."""
PADDING: dict[IdKind, str | int] = {"string": "", "integer": -1}
"""The place of no id, in inputs and outputs."""
NOT_AN_INTEGER = -2
"""The int64 for text that spells none, where ids are integers: an unknown id, and no padding."""
ALLOW_SENTINEL = "\N{REPLACEMENT CHARACTER} nothing"
"""Is appended to every list of allowed items, because one that is empty or holds padding alone would allow every item.
No item may have this id."""
DTYPES: dict[IdKind, type] = {"string": object, "integer": np.int64}
Array = np.ndarray[Any, np.dtype[Any]]


def id_array(values: Sequence[Any], kind: IdKind) -> Array:
    """(n,) ids of a request as an artefact takes them: object array of str, or int64."""
    if kind == "string":
        return text_array([*map(str, values)], kind)
    return np.fromiter(map(_spelt, values), np.int64, len(values))


def text_array(values: Sequence[str], kind: IdKind) -> Array:
    """As `id_array`, of ids that are all text."""
    if kind == "string":
        return np.fromiter(values, object, len(values))
    return np.fromiter(map(_spelt, values), np.int64, len(values))


def padded(rows: Sequence[Sequence[Any]], kind: IdKind) -> Array:
    """Ragged rows of ids to one (B, L) array, aligned right, padding on the left."""
    odd = next((row for row in rows if row is None or isinstance(row, str)), rows)
    if odd is not rows:
        raise RecloomError(f"expected a list of ids for each request, found {odd!r}; write [[...]]")
    flat = list(chain.from_iterable(rows))
    return aligned(rows, id_array(flat, kind), PADDING[kind])


def aligned(rows: Sequence[Sequence[Any]], values: Array, blank: Any) -> Array:
    """(B, L) array of the flat values of ragged rows, aligned right, `blank` on the left."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    width = int(lengths.max(initial=0))
    if (lengths == width).all():
        return values.reshape(len(rows), width)
    found: Array = np.full((len(rows), width), blank, dtype=values.dtype)
    found[np.arange(width) >= (width - lengths)[:, None]] = values  # row by row, as `values` are
    return found


def check_integers(ids: Sequence[str], column: str) -> None:
    """RecloomError unless every id is the usual spelling of a number from 0 to 2**63 - 1."""
    wrong = next((row for row, value in enumerate(ids, start=1) if _spelt(value) < 0), None)
    if wrong is not None:
        raise RecloomError(
            f"row {wrong} of the catalogue has {column} {ids[wrong - 1]!r}; integer ids are whole numbers from 0 to "
            f"{2**63 - 1}, without leading zeros. Export with string ids, as is usual."
        )


def _spelt(value: Any) -> int:
    """The integer from 0 that an id is or spells, padding for '' and -1, and NOT_AN_INTEGER for anything else."""
    if value in ("", PADDING["integer"]):
        return int(PADDING["integer"])
    try:
        number = int(value)
    except (TypeError, ValueError):
        return NOT_AN_INTEGER
    return number if 0 <= number < 2**63 and str(number) == str(value) else NOT_AN_INTEGER
