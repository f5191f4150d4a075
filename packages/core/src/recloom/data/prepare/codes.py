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
WHOLE = 1 << 24
"""From here on float32 skips whole numbers."""
ALWAYS = ("user_id", "item_id", "timestamp")
"""Columns of every interaction, which are no context."""


def choose_events(
    rows: pl.DataFrame, column: str | None = None, cuts: Sequence[float] | None = None
) -> tuple[EventCodes | None, str]:
    """Codes of what happened, and a note about them; none where the rows do not tell two things apart.

    Args:
        column: of the rows; by default `event` where there is one, else `value`.
        cuts: where intervals of numbers begin; by default each of at most `FEW_VALUES` values is an event.

    Raises DataError for a column that is not there, for cuts of words, and where there are too many events, or numbers
    that are equal as float32, in a column that was asked for.
    """
    if cuts is not None and not cuts:
        raise DataError(
            "--event-cuts needs the numbers where intervals begin, such as --event-cuts 3 4; found none."
        )
    if column is not None and column not in rows.columns:
        raise DataError(_absent(rows, column, "--event-column"))
    name = column or next((usual for usual in ("event", "value") if usual in rows.columns), None)
    if name is None:
        if cuts:
            raise DataError("--event-cuts needs a column of values, and these data have none. Leave it out.")
        return None, ""
    if not rows[name].dtype.is_numeric():
        return _of_words(rows, name, cuts, column is not None)
    return _of_numbers(rows, name, cuts, column is not None)


def choose_context(rows: pl.DataFrame, columns: Sequence[str]) -> list[ContextField]:
    """The fields of requests, each with its values in the order of the alphabet.

    Raises DataError for a column that is not there, for ids, times and a column named twice, and for one of too many
    different values.
    """
    fields: list[ContextField] = []
    for name in columns:
        if name in ALWAYS:
            raise DataError(
                f"--context-columns names {name!r}, which every interaction has and no model reads as context. Name "
                "columns of what is known of a request, such as device or place."
            )
        if any(field.name == name for field in fields):
            raise DataError(f"--context-columns names {name!r} twice. Name each column once.")
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
        return None, _nothing_apart(name) if asked else ""
    return EventCodes(column=name, names=words.to_list()), f"events: {_listed(words.to_list())} ({name})"


def _of_numbers(
    rows: pl.DataFrame, name: str, cuts: Sequence[float] | None, asked: bool
) -> tuple[EventCodes | None, str]:
    if cuts:
        return _of_intervals(name, cuts)
    distinct = rows[name].unique()
    values = distinct.cast(pl.Float32).drop_nulls().drop_nans().unique().sort()
    if len(values) > FEW_VALUES:
        many = f"column {name!r} has {len(values):,} different values"
        if asked:
            raise DataError(
                f"{many} (--event-column); at most {FEW_VALUES} can be events of their own. Make intervals of them "
                "with --event-cuts, such as --event-cuts 3 4."
            )
        return None, (
            f"no events: {many}. Intervals of them become events with --event-cuts, such as --event-cuts 3 4"
        )
    equal = _not_distinct(rows[name], distinct)
    if equal:
        if asked:
            raise DataError(
                f"{equal} (--event-column). Write smaller numbers or words, such as a rank of them, or make intervals "
                "with --event-cuts."
            )
        return None, f"no events: {equal}"
    if len(values) < 2:
        return None, _nothing_apart(name) if asked else ""
    words = [_word(value) for value in values.to_list()]
    edges = [float(word) for word in words[1:]]
    return EventCodes(column=name, names=words, cuts=edges), f"events: {_listed(words)} ({name})"


def _of_intervals(name: str, cuts: Sequence[float]) -> tuple[EventCodes, str]:
    edges = [float(cut) for cut in cuts]
    if (
        not np.isfinite(edges).all()
        or max(map(abs, edges)) > float(np.finfo(np.float32).max)
        or (np.diff(edges) <= 0).any()
    ):
        raise DataError(f"--event-cuts must be ascending numbers; found {', '.join(map(str, cuts))}.")
    large = [edge for edge in edges if abs(edge) >= WHOLE]
    if large:
        raise DataError(
            f"--event-cuts has {large[0]:.0f}, and values are compared as float32, which does not tell whole numbers "
            f"from {WHOLE} on from their neighbours, so that one below a cut may reach it. Write smaller numbers, such "
            "as thousands of them."
        )
    merged = _equal_as_float32(edges)
    if merged is not None:
        raise DataError(
            f"--event-cuts has {merged[0]!r} and {merged[1]!r}, which are the same number as float32, so nothing lies "
            "between them. Leave one out, or write smaller numbers."
        )
    if len(edges) >= EVENTS:
        raise DataError(f"--event-cuts has {len(edges):,} numbers; at most {EVENTS - 1} are possible.")
    between = [f"{_word(low)} to below {_word(high)}" for low, high in pairwise(edges)]
    names = [f"below {_word(edges[0])}", *between, f"{_word(edges[-1])} or more"]
    return EventCodes(column=name, names=names, cuts=edges), f"events: {_listed(names)} ({name})"


def _not_distinct(column: pl.Series, distinct: pl.Series) -> str:
    """What says that events of this column, of these distinct values, would merge; empty where they do not."""
    merged = _equal_as_float32(distinct.drop_nulls().sort().to_list())
    if merged is not None:
        return (
            f"column {column.name!r} holds {merged[0]} and {merged[1]}, which are the same number as float32"
        )
    # Readers give Float32, in which what was merged is not seen any more.
    if column.dtype == pl.Float32 and (distinct.abs() >= WHOLE).any():
        large = column.filter(column.abs() >= WHOLE)
        return (
            f"column {column.name!r} holds {large[0]:.0f}, and float32 does not tell whole numbers from {WHOLE} "
            "on from their neighbours"
        )
    return ""


def _equal_as_float32(ascending: Sequence[float]) -> tuple[float, float] | None:
    """The first two different neighbours that float32 does not tell apart."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(ascending, np.float32)
    places = np.flatnonzero(rounded[1:] <= rounded[:-1])
    return (ascending[places[0]], ascending[places[0] + 1]) if len(places) else None


def _nothing_apart(name: str) -> str:
    return f"no events: column {name!r} (--event-column) does not hold two different values"


def _word(value: float) -> str:
    """The shortest text that is the same number as float32: `4`, `4.5`."""
    return str(np.float32(value)).removesuffix(".0")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def _absent(rows: pl.DataFrame, column: str, flag: str) -> str:
    have = [name for name in rows.columns if name not in ALWAYS]
    return (
        f"the interactions were read without a column {column!r} ({flag}); beside ids and times they have "
        f"{', '.join(have) or 'none'}. A reader keeps further columns with --keep-columns {column}, where it has that "
        "option."
    )
