"""Any CSV, TSV, Parquet or JSON-lines table of interactions, its columns guessed from their names."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from ...errors import DataError
from ..card import Quote
from . import RawTables, column_list, no_rejections, prepare_command
from .attributes import read_side
from .delimited import SEPARATORS, Delimited, guess_separator, header_of, valid_rows
from .evidence import LINES, first_line_is_data, roles_by_value
from .jsonlines import read_json_lines
from .text import SHOWN, opening, rejections
from .values import ROLES, guess_columns, part_rows, row_checks, to_numbers, to_seconds

DELIMITED = (".csv", ".tsv", ".txt", ".dat", ".inter", ".tab")
JSON = (".jsonl", ".ndjson", ".json")
IDS = ("user_id", "item_id")
FLAGS = {
    "user_id": "--user-column",
    "item_id": "--item-column",
    "timestamp": "--time-column",
    "value": "--value-column",
}


class Table:
    """Any table of interactions (CSV, TSV, Parquet, JSON lines; .gz too); columns guessed or named.

    Args:
        items_path: files with item titles and attributes; an id map comes before the file it leads to.
        users_path: the same for users.
        separator: separator of the table, where the guess is wrong.
        quote: `none` where quotes are ordinary characters.
        columns: column names of a table without a header row.
        user_column: column of user ids, where the guess is wrong.
        item_column: column of item ids, where the guess is wrong.
        time_column: column of times, where the guess is wrong; `none` to use the order of rows.
        value_column: column of values such as ratings, where the guess is wrong; `none` to leave them out.
        time_format: how times are written, such as `%d.%m.%Y %H:%M`, where the guess is wrong or refused; for numbers
            `seconds`, `milliseconds`, `days` (since 1970) or `excel` (days as spreadsheets count them).
        title_column: column of titles in the file with item attributes, where the guess is wrong.
        keep_columns: further columns to keep beside each interaction.
    """

    name: ClassVar[str] = "table"
    licence: ClassVar[str] = "as stated by the publisher of the files"
    url: ClassVar[str | None] = None

    def __init__(
        self,
        items_path: list[Path] | None = None,
        users_path: list[Path] | None = None,
        separator: str | None = None,
        quote: Quote = "double",
        columns: list[str] | None = None,
        user_column: str | None = None,
        item_column: str | None = None,
        time_column: str | None = None,
        value_column: str | None = None,
        time_format: str | None = None,
        title_column: str | None = None,
        keep_columns: list[str] | None = None,
    ) -> None:
        self.items_path, self.users_path, self.separator = items_path or [], users_path or [], separator
        self.quote, self.columns, self.keep_columns = quote, column_list(columns), column_list(keep_columns)
        self.user_column, self.item_column, self.title_column = user_column, item_column, title_column
        self.time_column, self.value_column, self.time_format = time_column, value_column, time_format

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether the columns of a single file can be guessed."""
        try:
            return path.is_file() and set(guess_columns(column_names(path, cls()))) >= {
                "user_id",
                "item_id",
            }
        except (DataError, pl.exceptions.PolarsError, OSError):
            return False

    def read(self, path: Path) -> RawTables:
        """Read one file of interactions."""
        if not path.is_file():
            raise DataError(f"{path} is not a file. The reader `table` takes one file in --path.")
        roles = choose_columns(path, column_names(path, self), self)
        raw = _read(path, roles, self)
        raw.notes.insert(0, "columns: " + ", ".join(f"{column} as {role}" for role, column in roles.items()))
        if "timestamp" not in roles:
            raw.notes.append(
                "no column of times: the order of the rows is each user's order (or --time-column)"
            )
        read_side(raw, "item_id", self.items_path, roles["item_id"], self.title_column)
        read_side(raw, "user_id", self.users_path, roles["user_id"])
        return raw


def kind_of(path: Path) -> str:
    """`parquet`, `json` or `delimited`, by the file's ending and first character."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix == ".parquet":
        return "parquet"
    if suffix in JSON or (suffix not in DELIMITED and opening(path, 1)[0].lstrip().startswith("{")):
        return "json"
    return "delimited"


def column_names(path: Path, reader: Table) -> list[str]:
    """All columns of a file, from its header, its schema, its first objects or `--columns`."""
    kind = kind_of(path)
    if kind == "parquet":
        return list(pl.read_parquet_schema(path))
    if kind == "json":
        return _json_keys(path)
    separator = reader.separator or guess_separator(path)
    names = list(header_of(path, separator))
    if reader.columns:
        if len(guess_columns(names)) > 1:
            raise DataError(f"{path}, line 1 is a header: {', '.join(names)}. Leave --columns out.")
        return reader.columns
    if len(names) != len(set(names)) and not _headerless(path, names, separator):
        raise DataError(f"{path}, line 1: the header names a column twice: {', '.join(names)}. Rename one.")
    return names


def _json_keys(path: Path) -> list[str]:
    import json

    keys: dict[str, None] = {}
    for line in opening(path, 100):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        keys |= dict.fromkeys(found) if isinstance(found, dict) else {}
    if not keys:
        raise DataError(f"{path} holds no JSON object in its first lines. Expected one object a line.")
    return list(keys)


def choose_columns(path: Path, names: list[str], reader: Table) -> dict[str, str]:
    """Role to column: what the user named, else what can be guessed. One DataError names all that is wrong."""
    asked = {
        "user_id": reader.user_column, "item_id": reader.item_column,
        "timestamp": reader.time_column, "value": reader.value_column,
    }  # fmt: skip
    named = {role: column for role, column in asked.items() if column not in (None, "none")}
    guessed = {role: column for role, column in guess_columns(names).items() if column not in named.values()}
    roles = {role: named.get(role, guessed.get(role)) for role in ROLES if asked[role] != "none"}
    wanted = [(FLAGS[role], column) for role, column in named.items()]
    wanted += [("--keep-columns", name) for name in reader.keep_columns]
    absent = [f"{column!r} ({flag})" for flag, column in wanted if column not in names]
    faults = []
    if absent:
        faults.append(f"{path} has no column {', '.join(absent)}. It has {', '.join(names)}.")
    found = {role: column for role, column in roles.items() if column in names}
    if any(roles.get(role) is None for role in IDS):
        faults.append(_no_column(path, names, found, reader))
    if faults:
        raise DataError(" ".join(faults))
    return found


def _no_column(path: Path, names: list[str], found: dict[str, str], reader: Table) -> str:
    missing = [role for role in IDS if role not in found]
    kinds = " or ".join(role.replace("_", " ") + "s" for role in missing)
    what = f"{path}: no column of {kinds} recognised among {', '.join(names)[:300]}."
    if kind_of(path) == "delimited" and not reader.columns:
        better = guess_separator(path)
        if len(names) == 1 and reader.separator and better != reader.separator:
            return f"{what} Found {SEPARATORS[better]} as separator: pass --separator {better!r}."
        separator = reader.separator or better
        if _headerless(path, names, separator):
            return what + _name_columns(path, separator, reader)
    free = [name for name in names if name not in found.values()]
    example = dict(zip(missing, [*free, "NAME", "NAME"], strict=False))
    if_so = " and ".join(f"{column} holds {role.replace('_', ' ')}s" for role, column in example.items())
    more = "" if "timestamp" in found else " --time-column names the times, --value-column ratings."
    return f"{what} If {if_so}:\n  {_command(path, found | example, reader)}\n{more.strip()}".rstrip()


def _command(path: Path, roles: dict[str, str], reader: Table) -> str:
    """The whole command line that reads a file with these columns."""
    known = {
        "user_column": roles["user_id"], "item_column": roles["item_id"],
        "time_column": _valid(reader.time_column, roles), "value_column": _valid(reader.value_column, roles),
    }  # fmt: skip
    return prepare_command("table", path, _options(reader) | known)


def _options(reader: Table) -> dict[str, Any]:
    """The options of a reader that are no defaults."""
    given = {name: (getattr(reader, name), one.default) for name, one in signature(Table).parameters.items()}
    return {name: value if value != default else None for name, (value, default) in given.items()}


def _valid(column: str | None, roles: dict[str, str]) -> str | None:
    return column if column == "none" or column in roles.values() else None


def _cells(path: Path, separator: str) -> list[list[str]]:
    return [line.split(separator) for line in opening(path, LINES) if line.strip()]


def _headerless(path: Path, names: list[str], separator: str) -> bool:
    return len(names) > 1 and first_line_is_data(names, _cells(path, separator)[1:])


def _name_columns(path: Path, separator: str, reader: Table) -> str:
    """What to type for a file without a header: its columns named by what they hold."""
    columns = roles_by_value(_cells(path, separator))
    options = _options(reader) | {"columns": columns}
    return (
        " Line 1 looks like data, so the header row may be missing: name the columns in order with --columns. By what "
        f"they hold they may be:\n  {prepare_command('table', path, options)}\nSwap the names where the guess is wrong."
    )


def _read(path: Path, roles: dict[str, str], reader: Table) -> RawTables:
    kept = [name for name in reader.keep_columns if name not in roles.values()]
    if kind_of(path) == "delimited":
        return _read_delimited(path, roles, kept, reader)
    wanted = [*roles.values(), *kept]
    if kind_of(path) == "json":
        frame, bad = read_json_lines(path, wanted)
    else:
        frame, bad = (
            pl.read_parquet(path, columns=wanted, glob=False).with_row_index("line", 1),
            no_rejections(),
        )
    frame = frame.rename({column: role for role, column in roles.items()})
    frame, notes = _understood(path, frame.with_columns(pl.col(IDS).cast(pl.String)), reader)
    good, failed = part_rows(
        frame.with_columns(pl.col("line").cast(pl.UInt32)), row_checks(frame.schema, IDS)
    )
    if kind_of(path) == "json":
        rejected = rejections(path, failed["line"], failed["reason"])
    else:
        rejected = _parquet_rejections(path, failed)
    return RawTables(good, [path], rejected=pl.concat([bad, rejected]), notes=notes)


def _parquet_rejections(path: Path, failed: pl.DataFrame) -> pl.DataFrame:
    """Rejected rows of a file without lines: `line` counts rows, and the text is the row's values."""
    text = pl.concat_str(pl.exclude("line", "reason").cast(pl.String).fill_null("null"), separator=", ")
    return failed.select(
        pl.lit(path.name).alias("file"),
        pl.col("line").cast(pl.Int64),
        "reason",
        text.str.head(SHOWN).alias("text"),
    )


def _read_delimited(path: Path, roles: dict[str, str], kept: list[str], reader: Table) -> RawTables:
    separator = reader.separator or guess_separator(path)
    names = column_names(path, reader)
    renamed = {column: role for role, column in roles.items()}
    quote = '"' if reader.quote == "double" and len(separator) == 1 else None
    layout = Delimited(path, tuple(renamed.get(n, n) for n in names), separator, not reader.columns, quote)
    types: dict[str, pl.DataType] = dict.fromkeys([*roles, *kept], pl.String())
    if "value" in roles:
        types["value"] = pl.Float32()
    if "timestamp" in roles:
        types["timestamp"] = pl.String() if reader.time_format else _time_type(layout)
    frame, lossy = layout.read(types)
    if "value" in roles and separator != "," and frame["value"].null_count():  # decimal commas?
        frame, lossy = layout.read(types | {"value": pl.String()})
    frame, notes = _understood(path, frame, reader)
    good, bad = valid_rows(frame, layout, lossy, IDS)
    notes.insert(0, f"separator: {SEPARATORS.get(separator, repr(separator))}")
    return RawTables(good, [path], rejected=bad, notes=notes)


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
    lines = [line for line in opening(layout.path, 50)[layout.header :] if line.strip()]
    cells = [line.split(layout.separator) for line in lines]
    texts = [row[place].strip() for row in cells if len(row) > place]
    whole = sum(text.removeprefix("-").isdigit() for text in texts)
    return pl.Int64() if whole * 2 > len(texts) else pl.String()
