"""What a reader of raw data is: a name, a way to recognise a path, and `read`, which gives checked tables."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import polars as pl

from ..card import Layout, Quote

REJECTED: dict[str, pl.DataType] = {
    "file": pl.String(),
    "line": pl.Int64(),
    "reason": pl.String(),
    "text": pl.String(),
}


@dataclass(frozen=True)
class ReadOptions:
    """What a user may tell a reader; each reader names the ones it understands in `Reader.options`."""

    items_path: list[Path] = field(default_factory=list)
    """Files with item titles and attributes; an id map may come before the file it leads to."""
    users_path: list[Path] = field(default_factory=list)
    separator: str | None = None
    quote: Quote = "double"
    """`none` where quotes are ordinary characters."""
    columns: list[str] = field(default_factory=list)
    """Column names of a file that has no header row."""
    user_column: str | None = None
    item_column: str | None = None
    time_column: str | None = None
    """`none` ignores a time column that was recognised; so does `none` as `value_column`."""
    value_column: str | None = None
    time_format: str | None = None
    """How times are written, such as `%d.%m.%Y`; by default the usual forms are tried."""
    title_column: str | None = None
    """Column of titles in the last file of `items_path`."""
    keep_columns: list[str] = field(default_factory=list)
    layout: Layout = "auto"
    """Sequence files: one `user item` pair a line, or one user a line."""

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, as plain values without folder names."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: _plain(value) for name, value in values.items() if value not in ([], None, "auto", "double")
        }

    def words(self) -> str:
        """The options that were given, as they are typed on the command line."""
        typed: list[str] = []
        for name in self.given():
            value = getattr(self, name)
            many = value if isinstance(value, list) else [value]
            typed += ["--" + name.replace("_", "-"), *(shlex.quote(str(one)) for one in many)]
        return " ".join(typed)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [v.name if isinstance(v, Path) else v for v in value]
    return value


def no_rejections() -> pl.DataFrame:
    """An empty table of rejected rows."""
    return pl.DataFrame(schema=REJECTED)


@dataclass
class RawTables:
    """What a reader found. Rows that are not valid are in `rejected`, never in `interactions`."""

    interactions: pl.DataFrame
    """`user_id`, `item_id` (String), `timestamp` (Int64 Unix seconds; absent where only the order is
    known), optionally `value` (Float32), `file` (place in `files`, default 0) and others, and `line`
    (1-based line of the file), in file order."""
    files: list[Path]
    """Every file read; `interactions.file` counts into it."""
    items: pl.DataFrame | None = None
    """`item_id` (String, unique) first, then attributes."""
    users: pl.DataFrame | None = None
    """`user_id` (String, unique) first, then attributes."""
    impressions: pl.DataFrame | None = None
    rejected: pl.DataFrame = field(default_factory=no_rejections)
    rejected_items: pl.DataFrame = field(default_factory=no_rejections)
    """Rows of item, user and other side files that could not be used."""
    notes: list[str] = field(default_factory=list)
    """What was recognised or guessed, shown to the user."""

    @property
    def timed(self) -> bool:
        """Whether the source has times, not only an order."""
        return "timestamp" in self.interactions.columns


class Reader(Protocol):
    """Reads one raw data format. The first line of its docstring stands in `recloom data list`."""

    name: ClassVar[str]
    licence: ClassVar[str]
    url: ClassVar[str | None]
    options: ClassVar[frozenset[str]]
    """Names of the fields of `ReadOptions` that this reader understands; others are refused."""

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether `path` (a file or a folder) looks like this format; reads a few lines at most."""
        ...

    def read(self, path: Path, options: ReadOptions) -> RawTables:
        """Read everything. Raises DataError when the format is not what it promises."""
        ...


def core_readers() -> list[type[Reader]]:
    """The readers that come with Recloom, most specific first."""
    from .amazon import Amazon
    from .mind import Mind
    from .movielens import MovieLens
    from .sequences import Sequences
    from .table import Table

    return [MovieLens, Mind, Amazon, Sequences, Table]
