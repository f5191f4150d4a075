"""Items and users as text: what a prompt shows of them, and what an encoder reads. One function for all commands.

Numbers and lists (`genres: ["Crime", "Drama"]`) are shown as well as texts; what says nothing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from ...data.catalog import COUNTED, VECTOR, column_text, is_text
from ...errors import DataError
from ..prompts import INVISIBLE

TextRecord = dict[str, str]


def item_text(table: pl.DataFrame, columns: Sequence[str] | None = None) -> dict[str, str]:
    """`name: text; name: text` of each row, by id; '' for one without attributes; else as `text_records`."""
    records = text_records(table, columns)
    ids = table[table.columns[0]].to_list()
    return {id_: "; ".join(record_lines(records[id_])) if id_ in records else "" for id_ in ids}


def text_records(table: pl.DataFrame, columns: Sequence[str] | None = None) -> dict[str, TextRecord]:
    """Attributes by name of each row that has any, by id; numbers and lists as text, empty ones left out.

    Args:
        table: items or users of a catalogue, whose first column holds the ids.
        columns: the attributes; None = all that can be text but those computed over held-out interactions too.

    Raises DataError for a column that is not there, or that no prompt may show.
    """
    key, *others = table.columns
    things = key.removesuffix("_id") + "s"
    known = [name for name in others if name not in (VECTOR, *COUNTED) and is_text(table.schema[name])]
    chosen = list(columns) if columns else known
    counted = [name for name in chosen if name in COUNTED]
    if counted:
        raise DataError(
            f"the column {counted[0]!r} was computed over held-out interactions too, so no prompt shows it"
        )
    absent = [name for name in chosen if name not in known]
    if absent:
        raise DataError(
            f"the {things} have no column {absent[0]!r}; they have {', '.join(known) or 'none'}. "
            "Name some of them with --columns."
        )
    rows = table.select(key, *(column_text(table, name) for name in chosen)).to_dicts()
    found = {row.pop(key): row for row in rows}
    shown = {id_: {name: _visible(text) for name, text in row.items() if text} for id_, row in found.items()}
    return {id_: record for id_, record in shown.items() if record}


def record_lines(record: Mapping[str, str]) -> list[str]:
    """`name: text` of each attribute."""
    return [f"{name}: {text}" for name, text in record.items()]


def _visible(text: str) -> str:
    """As a prompt shows it, delimiters aside: what is cited is looked up in it."""
    return " ".join(INVISIBLE.sub(" ", text).split())
