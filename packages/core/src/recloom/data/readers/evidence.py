"""What the first lines of a text file say: whether line 1 is data, whether lines are sequences, what columns hold."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from .numeric_times import DAY, OLDEST
from .values import guess_columns

LINES = 1000
"""So many lines are looked at."""
MOST = 0.9
"""The share of cells that must be of a kind for a column to be."""
RATINGS = 21
"""So many different values a column of ratings has at most: -10 to 10, or 0 to 10 in halves."""
_DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([T ].*)?")
_DIGITS = re.compile(r"(19[89]\d|20[0-4]\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
Kind = Literal["sequences", "table", "unclear", "other"]
Cells = Sequence[Sequence[str]]


class Shape(NamedTuple):
    """How lines of words look, and why."""

    kind: Kind
    why: str = ""
    layout: str = "users"
    """Of sequences, where they are such."""


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_time(text: str) -> bool:
    """Whether a text is a date (20231231 too), or Unix seconds or milliseconds from 1995 to a year from now."""
    text = text.strip()
    if _DATE.fullmatch(text) or _DIGITS.fullmatch(text):
        return True
    digits = text.partition(".")[0]
    if not digits.isascii() or not digits.isdigit() or not is_number(text):
        return False
    seconds = int(digits) // (1000 if len(digits) >= 12 else 1)
    return OLDEST <= seconds <= time.time() + 366 * DAY


def first_line_is_data(first: Sequence[str], rows: Cells) -> bool:
    """Whether line 1 is no header: it holds a number or a time, or a cell that its column has again.

    Args:
        first: the cells of line 1.
        rows: the cells of the lines after it.
    """
    if any(is_number(cell) or is_time(cell) for cell in first):
        return True
    columns = [{row[place].strip() for row in rows if len(row) > place} for place in range(len(first))]
    again = [cell for cell, column in zip(first, columns, strict=True) if cell and cell in column]
    return bool(again) and not guess_columns(list(first))


def with_row_names(names: Sequence[str], rows: Cells) -> list[str]:
    """The names of columns, with one without a name before them where all rows begin with their number, as R writes.

    Args:
        names: the cells of line 1.
        rows: the cells of the lines after it.
    """
    numbered = all(row[0] == str(number) for number, row in enumerate(rows, 1))
    whole = all(len(row) == len(names) + 1 for row in rows) and any(row[-1].strip() for row in rows)
    return ["", *names] if rows and numbered and whole else list(names)


def roles_by_value(rows: Cells) -> list[str]:
    """A name for each column of rows without a header: times and ratings by their values, ids by their place."""
    width = max(len(row) for row in rows)
    columns = [[row[place].strip() for row in rows if len(row) > place] for place in range(width)]
    times = [place for place, column in enumerate(columns) if _mostly_times(column)]
    free = [place for place in range(width) if place not in times and not _fractions(columns[place])]
    names = {place: f"column_{place + 1}" for place in range(width)}
    names |= dict(zip(times[:1], ["timestamp"], strict=False))
    names |= dict(zip(free[:2], ["user_id", "item_id"], strict=False))
    rest = [place for place in range(width) if place not in (*times, *free[:2])]
    values = [place for place in rest if all(map(is_number, columns[place])) and _varies(columns[place])]
    best = [place for place in values if _ratings(columns[place])]
    others = [place for place in values if not _fractions(columns[place]) or _small(columns[place])]
    names |= dict(zip((best or others)[:1], ["value"], strict=False))
    return [names[place] for place in range(width)]


def shape_of(lines: Sequence[str]) -> Shape:
    """Whether lines of words are sequences of ids, rows of a table, either of the two, or something else."""
    rows = [line.split() for line in lines]
    rows = [row for row in rows if row]
    if not rows or not _ids(rows[0]) or not _ids([word for row in rows[1:] for word in row]):
        return Shape("other")
    if _is_header(rows):
        return Shape("table", f"line 1 is a header: {' '.join(rows[0])[:100]}")
    if 2 * sum(map(_has_digit, (word for row in rows for word in row))) <= sum(map(len, rows)):
        return Shape("other")
    widths = {len(row) for row in rows}
    if max(widths) < 2:
        return Shape("other")
    return _pairs(rows) if widths == {2} else _ragged(rows) if len(widths) > 1 else _constant(rows)


def _pairs(rows: Cells) -> Shape:
    if _mostly_times([row[1] for row in rows]) and not _mostly_times([row[0] for row in rows]):
        return Shape("unclear", "the second of two columns holds times", "pairs")
    return Shape("sequences", "each line holds two ids", "pairs")


def _ragged(rows: Cells) -> Shape:
    """Lines of different lengths: a user and its items, unless the first word is something else."""
    long = [row for row in rows if len(row) > 1]
    if len(long) > 2 and all(row[0] == str(len(row) - 1) for row in long):
        return Shape(
            "unclear", "each line begins with the number of words after it, which is no user", "items"
        )
    if _repeated(rows):
        return Shape(
            "unclear", "the first words of several lines are the same, so they may be no users", "items"
        )
    for place in range(1, max(map(len, rows))):
        column = [row[place] for row in rows if len(row) > place]
        if len(column) > 1 and _mostly_times(column) and not all(map(is_time, rows[0][1:])):
            return Shape("unclear", f"word {place + 1} of the lines is a time")
    return Shape("sequences", "each line holds a user and its items")


def _constant(rows: Cells) -> Shape:
    """Lines of one length: rows of a table where columns differ in kind, sequences where they share their ids."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    width, later = len(columns), columns[2:]
    timed = [place for place, column in enumerate(columns) if place and _mostly_times(column)]
    if timed and len(timed) < width - 1:
        return Shape("table", f"column {timed[0] + 1} of {width} holds times")
    rated = [place for place, column in enumerate(columns) if place > 1 and _ratings(column)]
    if rated and not _ratings(columns[1]):
        return Shape("table", f"column {rated[0] + 1} of {width} holds few small numbers, such as ratings")
    if _repeated(rows):
        return Shape("unclear", f"all lines have {width} words, and the first words of several are the same")
    shared = set(columns[1]).intersection(*later) if len(rows) > 20 else set(columns[1]) & set().union(*later)
    if shared:
        return Shape("sequences", "each line holds a user and its items")
    return Shape("unclear", f"all lines have {width} words, and the columns share no ids")


def _ids(words: Sequence[str]) -> bool:
    return all(word.replace("-", "").replace("_", "").isalnum() for word in words)


def _has_digit(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _is_header(rows: Cells) -> bool:
    """Names of columns, or words without a digit above columns of which one has digits in all its cells."""
    first, rest = rows[0], rows[1:]
    if {"user_id", "item_id"} <= set(guess_columns(list(first))):
        return True
    if not rest or any(map(_has_digit, first)):
        return False
    same = [row for row in rest if len(row) == len(first)]
    return len(same) >= MOST * len(rest) and any(
        all(map(_has_digit, column)) for column in zip(*same, strict=True)
    )


def _repeated(rows: Cells) -> bool:
    """Whether more than one line in twenty begins as another does."""
    return len({row[0] for row in rows}) < 0.95 * len(rows)


def _mostly_times(column: Sequence[str]) -> bool:
    return bool(column) and sum(map(is_time, column)) >= MOST * len(column)


def _fractions(column: Sequence[str]) -> bool:
    """Whether some of a column's numbers are not whole, as places on earth and ratings may be, and ids are not."""
    return all(map(is_number, column)) and any(not float(cell).is_integer() for cell in column)


def _varies(column: Sequence[str]) -> bool:
    """Whether a column that is long enough to show it has several values."""
    return len(column) < RATINGS or len(set(column)) > 1


def _small(column: Sequence[str]) -> bool:
    return all(-10 <= float(value) <= 10 for value in column)


def _ratings(column: Sequence[str]) -> bool:
    """Few different small numbers, most of them several times."""
    distinct = set(column)
    if len(distinct) > min(RATINGS, max(1, len(column) / 2)) or not all(map(is_number, distinct)):
        return False
    return _small([*distinct])
