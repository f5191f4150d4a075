"""What is known of items or users, as a prompt may show it: attributes by name, as text, one record for each id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from ...data.catalog import COUNTED, VECTOR
from ...errors import DataError
from ..prompts import INVISIBLE

TextRecord = dict[str, str]


def records_of(table: pl.DataFrame, columns: Sequence[str] | None = None) -> dict[str, TextRecord]:
    """Attributes by name of each row that has any, by id; numbers and lists as text, empty ones left out.

    Args:
        table: items or users of a catalogue, whose first column holds the ids.
        columns: the attributes; None = all but vectors and what was computed over held-out interactions too.

    Raises DataError for a column that is not there, or that no prompt may show.
    """
    key, *others = table.columns
    things = key.removesuffix("_id") + "s"
    known = [name for name in others if name not in (VECTOR, *COUNTED)]
    chosen = list(columns) if columns else known
    counted = [name for name in chosen if name in COUNTED]
    if counted:
        raise DataError(
            f"the column {counted[0]!r} was computed over held-out interactions too, so no prompt shows it"
        )
    absent = [name for name in chosen if name not in known]
    if absent:
        raise DataError(f"the {things} have no column {absent[0]!r}; they have {', '.join(known) or 'none'}")
    rows = table.select(key, *(_as_text(table, name) for name in chosen)).to_dicts()
    found = {row.pop(key): row for row in rows}
    shown = {id_: {name: _shown(text) for name, text in row.items() if text} for id_, row in found.items()}
    return {id_: record for id_, record in shown.items() if record}


def lines_of(record: Mapping[str, str]) -> list[str]:
    """`name: text` of each attribute."""
    return [f"{name}: {text}" for name, text in record.items()]


def _as_text(table: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    if isinstance(table[name].dtype, pl.List):
        column = column.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    return column.cast(pl.String).fill_null("").str.strip_chars()


def _shown(text: str) -> str:
    """As a prompt shows it, delimiters aside: what is cited is looked up in it."""
    return " ".join(INVISIBLE.sub(" ", text).split())
