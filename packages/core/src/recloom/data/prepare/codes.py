"""Which number stands for what happened, and for each value of the fields of a request; fixed once, by `prepare`.

The numbers are a vocabulary of all rows, held-out ones too: cuts are values themselves or were given, never shares of
rows, so they tell nothing of what is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from ...errors import DataError
from ...schemas import ContextField, EventCodes

EVENTS = 255
"""Different events at most: a code is one byte."""
FEW_VALUES = 32
"""So many different values are events of their own where no cuts are given."""
CONTEXT_VALUES = 10_000
"""Different values of a field of requests at most."""


def choose_events(
    rows: pl.DataFrame, column: str | None = None, cuts: Sequence[float] | None = None
) -> tuple[EventCodes | None, str]:
    """Codes of what happened, and a note about them; none where the rows do not tell two things apart.

    Args:
        column: of the rows; by default `event` where there is one, else `value`.
        cuts: where intervals of numbers begin; by default each of at most `FEW_VALUES` values is an event.

    Raises DataError for a column that is not there, for cuts of words, and where there are too many events.
    """
    if column is not None and column not in rows.columns:
        raise DataError(_absent(rows, column, "--event-column"))
    name = column or next((usual for usual in ("event", "value") if usual in rows.columns), None)
    if name is None:
        if cuts:
            raise DataError("--event-cuts needs a column of values, and these data have none. Leave it out.")
        return None, ""
    if not rows[name].dtype.is_numeric():
        return _of_words(rows, name, cuts, column is not None)
    return _of_numbers(rows, name, cuts)


def choose_context(rows: pl.DataFrame, columns: Sequence[str]) -> list[ContextField]:
    """The fields of requests, each with its values in the order of the alphabet.

    Raises DataError for a column that is not there, and for one of too many different values.
    """
    fields = []
    for name in columns:
        if name not in rows.columns:
            raise DataError(_absent(rows, name, "--context-columns"))
        values = rows[name].cast(pl.String).drop_nulls().unique().sort()
        if len(values) > CONTEXT_VALUES:
            raise DataError(
                f"column {name!r} (--context-columns) has {len(values):,} different values; at most {CONTEXT_VALUES:,} "
                "can be told apart. Make coarser ones of them, such as the hour of a time."
            )
        fields.append(ContextField(name=name, values=values.to_list()))
    return fields


def _of_words(
    rows: pl.DataFrame, name: str, cuts: Sequence[float] | None, asked: bool
) -> tuple[EventCodes | None, str]:
    if cuts:
        raise DataError(f"--event-cuts divides numbers, and column {name!r} holds words. Leave it out.")
    words = rows[name].cast(pl.String).drop_nulls().unique().sort()
    if len(words) > EVENTS and asked:
        raise DataError(
            f"column {name!r} (--event-column) has {len(words):,} different values; at most {EVENTS} events can be "
            "told apart. Name another column."
        )
    if len(words) > EVENTS:
        return None, f"no events: column {name!r} has {len(words):,} different values"
    if len(words) < 2:
        return None, ""
    return EventCodes(column=name, names=words.to_list()), f"events: {_listed(words.to_list())} ({name})"


def _of_numbers(rows: pl.DataFrame, name: str, cuts: Sequence[float] | None) -> tuple[EventCodes | None, str]:
    if cuts:
        edges = [float(cut) for cut in cuts]
        if not np.isfinite(edges).all() or (np.diff(np.asarray(edges, np.float32)) <= 0).any():
            raise DataError(f"--event-cuts must be ascending numbers; found {', '.join(map(str, cuts))}.")
        if len(edges) >= EVENTS:
            raise DataError(f"--event-cuts has {len(edges):,} numbers; at most {EVENTS - 1} are possible.")
        between = [f"{_word(low)} to below {_word(high)}" for low, high in pairwise(edges)]
        names = [f"below {_word(edges[0])}", *between, f"{_word(edges[-1])} or more"]
        return EventCodes(column=name, names=names, cuts=edges), f"events: {_listed(names)} ({name})"
    values = rows[name].cast(pl.Float32).drop_nulls().unique().sort()
    if len(values) > FEW_VALUES:
        return None, (
            f"no events: column {name!r} has {len(values):,} different values. Intervals of them become events "
            "with --event-cuts, such as --event-cuts 3 4"
        )
    if len(values) < 2:
        return None, ""
    words = [_word(value) for value in values.to_list()]
    edges = [float(word) for word in words[1:]]
    return EventCodes(column=name, names=words, cuts=edges), f"events: {_listed(words)} ({name})"


def _word(value: float) -> str:
    """The shortest text that is the same number as float32: `4`, `4.5`."""
    return str(np.float32(value)).removesuffix(".0")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def _absent(rows: pl.DataFrame, column: str, flag: str) -> str:
    have = [name for name in rows.columns if name not in ("user_id", "item_id", "timestamp")]
    return (
        f"the interactions were read without a column {column!r} ({flag}); beside ids and times they have "
        f"{', '.join(have) or 'none'}. A reader keeps further columns with --keep-columns {column}, where it has that "
        "option."
    )
