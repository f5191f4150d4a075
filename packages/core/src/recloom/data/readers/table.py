"""Any CSV, TSV, Parquet or JSON-lines table of interactions, its columns guessed from their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from ..card import Quote
from . import RawTables, column_list, no_rejections
from .attributes import read_side
from .delimited import (
    SEPARATORS,
    Delimited,
    guess_separator,
    placed_names,
    stripped_ids,
    typed_separator,
    valid_rows,
)
from .evidence import LINES
from .foreign import no_table
from .jsonlines import json_keys
from .lists import one_row_an_item
from .objects import plain_values, read_members
from .partitions import partition_notes, with_partitions
from .quoting import cells_of
from .table_columns import IDS, choose_columns, column_names, fixed_columns, texts_of, unused_lists
from .text import SHOWN, holds, kind_of, opening, rejections
from .text_lists import list_marks
from .unused import left_out, titles_of
from .values import part_rows, row_checks, to_numbers, to_seconds


class Table:
    """Any table of interactions (CSV, TSV, Parquet, JSON; .gz too), or a folder of tables; columns guessed or named.

    Args:
        items_path: files with item titles and attributes; an id map comes before the file it leads to.
        users_path: the same for users.
        separator: separator of the table, where the guess is wrong.
        quote: what quotes mean here and in side files: `double` or `backslash`, how quotes inside a quoted field are
            written; `none` where they are ordinary characters; by default as the lines show.
        encoding: of this file and side files, such as `cp1252`; by default UTF-8, UTF-16, or a guess that is shown.
        columns: column names of a table without a header row.
        user_column: column of user ids, where the guess is wrong.
        item_column: column of item ids, where the guess is wrong.
        time_column: column of times, where the guess is wrong; `none` to use the order of rows.
        value_column: column of values such as ratings, where the guess is wrong; `none` to leave them out.
        time_format: how times are written, such as `%d.%m.%Y %H:%M`, where the guess is wrong or refused; for numbers
            `seconds`, `milliseconds`, `days` (since 1970) or `excel` (days as spreadsheets count them).
        title_column: column of titles in the file with item attributes, where the guess is wrong.
        keep_columns: further columns to keep beside each interaction.
        tables: of a folder, the files that hold the interactions, where several may.
        list_separator: what separates the items of a list that is one cell, such as ` ` or `,`; `none` where such cells
            are single ids.
    """

    name: ClassVar[str] = "table"
    licence: ClassVar[str] = "as stated by the publisher of the files"
    url: ClassVar[str | None] = None

    def __init__(
        self,
        items_path: list[Path] | None = None,
        users_path: list[Path] | None = None,
        separator: str | None = None,
        quote: Quote = "auto",
        columns: list[str] | None = None,
        user_column: str | None = None,
        item_column: str | None = None,
        time_column: str | None = None,
        value_column: str | None = None,
        time_format: str | None = None,
        title_column: str | None = None,
        keep_columns: list[str] | None = None,
        encoding: str = "auto",
        tables: list[str] | None = None,
        list_separator: str | None = None,
    ) -> None:
        self.items_path, self.users_path = items_path or [], users_path or []
        self.separator = typed_separator(separator)
        self.quote, self.columns, self.keep_columns = quote, column_list(columns), column_list(keep_columns)
        self.encoding, self.tables, self.list_separator = encoding, tables or [], list_separator
        self.user_column, self.item_column, self.title_column = user_column, item_column, title_column
        self.time_column, self.value_column, self.time_format = time_column, value_column, time_format
        self.folder: Path | None = None  # read as one set, so that names of folders in it may be columns
        self.headers: dict[Path, list[str]] = {}  # of the files of that folder

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether the columns of a single file can be guessed, or which tables of a folder hold what."""
        try:
            if path.is_dir():
                from .folder_evidence import folder_plan

                return bool(folder_plan(path, cls()).tables)
            return path.is_file() and bool(choose_columns(path, column_names(path, cls()), cls()))
        except (DataError, pl.exceptions.PolarsError, OSError):
            return False

    def read(self, path: Path) -> RawTables:
        """Read one file of interactions; or of a folder the tables of interactions, items and users."""
        if path.is_dir():
            from .folder import read_folder

            return read_folder(path, self)
        raw, roles = read_interactions(path, self)
        if self.title_column and not self.items_path and raw.items is None:
            raise DataError(
                f"{path} has no column {self.title_column!r} of titles (--title-column), and no --items-path is given. "
                f"It has {', '.join(column_names(path, self))}."
            )
        read_sides(raw, self, roles)
        return raw


def read_interactions(path: Path, reader: Table) -> tuple[RawTables, dict[str, str]]:
    """One table of interactions without those beside it, and which column was taken for what."""
    if not path.is_file():
        raise DataError(f"{path} is not a file. The reader `table` takes a file or a folder in --path.")
    if reader.tables:
        raise DataError(f"--tables names files of a folder, and {path} is a file. Leave it out.")
    names = column_names(path, reader)
    roles = choose_columns(path, names, reader)
    raw = _read(path, roles, reader)
    raw.notes.insert(0, "columns: " + ", ".join(f"{column} as {role}" for role, column in roles.items()))
    raw.notes += unused_lists(names, [*roles.values(), *reader.keep_columns])
    if "timestamp" not in roles:
        raw.notes.append("no column of times: the order of the rows is each user's order (or --time-column)")
    raw.encoding = reader.encoding
    return raw, roles


def read_sides(raw: RawTables, reader: Table, roles: Mapping[str, str]) -> None:
    """Add items and users from the files that the reader names."""
    quote, text = reader.quote, reader.encoding
    read_side(
        raw, "item_id", reader.items_path, roles["item_id"], reader.title_column, quote=quote, encoding=text
    )
    read_side(raw, "user_id", reader.users_path, roles["user_id"], quote=quote, encoding=text)


def _read(path: Path, roles: dict[str, str], reader: Table) -> RawTables:
    fixed = fixed_columns(path, reader)
    names, title = column_names(path, reader), None if reader.items_path else reader.title_column
    title = title if title in names and title not in roles.values() else None
    asked = dict.fromkeys(reader.keep_columns)
    kept = [name for name in dict.fromkeys([*asked, title, *fixed]) if name and name not in roles.values()]
    texts = texts_of(path, names, reader)
    raw = _rows(path, roles, kept, reader, texts)
    if title is not None:
        column = title if title in raw.interactions.columns else f"other_{title}"
        raw.items = titles_of(raw.interactions, column, raw.notes)
        raw.interactions = raw.interactions if title in asked else raw.interactions.drop(column)
    known = [
        *roles,
        *(["timestamp"] if reader.time_column else []),
        *(["title"] if title or reader.items_path else []),
    ]
    raw.notes += partition_notes(fixed, roles.values(), timed="timestamp" in known)
    raw.notes += left_out(names, [*roles.values(), *kept], texts, known)
    return raw


def _rows(
    path: Path, roles: dict[str, str], kept: list[str], reader: Table, texts: Mapping[str, Sequence[str]]
) -> RawTables:
    """The rows of a file as columns of roles, and those that are kept; `texts` are the first cells of each column."""
    kind = kind_of(path, reader.encoding)
    if kind == "delimited":
        return _read_delimited(path, roles, kept, reader, texts)
    wanted = [*roles.values(), *kept]
    names, notes = _called(wanted, roles, kept)
    keys, fixed = _placed(wanted, names, fixed_columns(path, reader))
    marks, doubts = list_marks(path, roles, texts, reader)
    notes += doubts
    if kind == "json":
        frame, bad = read_members(path, keys, json_keys(path, reader.encoding), reader.encoding, notes)
    else:
        frame, bad = pl.read_parquet(path, columns=[*keys], glob=False).select([*keys]), no_rejections()
        frame.columns = [*keys.values()]
        frame = frame.with_row_index("line", 1).with_columns(pl.col("line").cast(pl.UInt32))
    frame, listed = one_row_an_item(path, with_partitions(frame, fixed), marks)
    frame, objects = plain_values(path, frame, roles, listed, notes)
    frame = stripped_ids(path, frame.with_columns(pl.col(IDS).cast(pl.String)), IDS, notes)
    frame, understood = _understood(path, frame, reader)
    good, failed = part_rows(frame, [*row_checks(frame.schema, IDS), *objects])
    if kind == "json":
        rejected = rejections(path, failed["line"], failed["reason"], reader.encoding)
    else:
        rejected = _parquet_rejections(path, failed)
    return RawTables(good, [path], rejected=pl.concat([bad, rejected]), notes=[*notes, *listed, *understood])


def _called(columns: list[str], roles: dict[str, str], kept: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """What each column is called: by its role, or as it is, or `other_...` where a role has its name; and a note."""
    names = placed_names(columns, {columns.index(column): role for role, column in roles.items()})
    others = {column: names[columns.index(column)] for column in kept}
    listed = ", ".join(f"{column} as {name}" for column, name in others.items() if column != name)
    return names, [f"kept under other names: {listed}"] if listed else []


def _placed(
    columns: Sequence[str], names: Sequence[str], values: Mapping[str, str | None]
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Columns of the file to what they are called, and what those are called that have one of `values`."""
    called = dict(zip(columns, names, strict=True))
    own = {column: name for column, name in called.items() if column not in values}
    return own, {called[column]: value for column, value in values.items()}


def _parquet_rejections(path: Path, failed: pl.DataFrame) -> pl.DataFrame:
    """Rejected rows of a file without lines: `line` counts rows, and the text is the row's values."""
    text = pl.concat_str(pl.exclude("line", "reason").cast(pl.String).fill_null("null"), separator=", ")
    return failed.select(
        pl.lit(path.name).alias("file"),
        pl.col("line").cast(pl.Int64),
        "reason",
        text.str.head(SHOWN).alias("text"),
    )


def _read_delimited(
    path: Path, roles: dict[str, str], kept: list[str], reader: Table, texts: Mapping[str, Sequence[str]]
) -> RawTables:
    if other := no_table(path, opening(path, LINES, reader.encoding)):
        raise DataError(other)
    separator = reader.separator or guess_separator(path, reader.encoding)
    columns = column_names(path, reader)
    names, notes = _called(columns, roles, kept)
    own, fixed = _placed(columns, names, fixed_columns(path, reader))
    layout = Delimited(
        path, tuple(own.values()), separator, not reader.columns, reader.quote, reader.encoding, notes
    )
    marks, doubts = list_marks(path, roles, texts, reader)
    notes += doubts
    wanted = [*roles, *(names[columns.index(column)] for column in kept)]
    types: dict[str, pl.DataType] = {name: pl.String() for name in wanted if name not in fixed}
    if "value" in types and "value" not in marks:
        types["value"] = pl.Float32()
    if "timestamp" in types and "timestamp" not in marks:
        types["timestamp"] = pl.String() if reader.time_format else _time_type(layout)
    frame, lossy = layout.read(types)
    unread = frame["value"].null_count() if "value" in types else 0
    if unread and (separator != "," or 2 * unread > frame.height or holds(path, b'"')):  # words, commas?
        frame, lossy = layout.read(types | {"value": pl.String()})
    frame, listed = one_row_an_item(path, with_partitions(frame, fixed), marks)
    frame, objects = plain_values(path, frame, roles, listed, notes)
    frame, understood = _understood(path, frame, reader)
    good, bad = valid_rows(frame, layout, lossy, IDS, objects)
    notes.insert(0, f"separator: {SEPARATORS.get(separator, repr(separator))}")
    return RawTables(good, [path], rejected=bad, notes=[*notes, *listed, *understood])


def _understood(path: Path, frame: pl.DataFrame, reader: Table) -> tuple[pl.DataFrame, list[str]]:
    """The frame with values as numbers and times as seconds, and what they were taken for."""
    notes = []
    if "timestamp" in frame.columns:
        try:
            times, taken_for = to_seconds(frame["timestamp"], reader.time_format)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        frame = frame.with_columns(times.alias("timestamp"))
        notes.append(f"times: {taken_for}")
    if "value" in frame.columns:
        numbers, assumed = to_numbers(frame["value"])
        frame = frame.with_columns(numbers.alias("value"))
        notes += [f"values: {assumed}"] if assumed else []
    return frame, notes


def _time_type(layout: Delimited) -> pl.DataType:
    """Whole numbers are parsed as such at once; anything else is read as text and looked at."""
    place = layout.names.index("timestamp")
    lines = [line for line in opening(layout.path, 50, layout.encoding)[layout.header :] if line.strip()]
    cells = [cells_of(line, layout.separator, layout.quote) for line in lines]
    texts = [row[place].strip() for row in cells if len(row) > place]
    whole = sum(text.removeprefix("-").isdigit() for text in texts)
    return pl.Int64() if whole * 2 > len(texts) else pl.String()
