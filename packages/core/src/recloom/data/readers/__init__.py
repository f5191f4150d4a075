"""What a reader of raw data is: a name, a way to recognise a path, and `read`, which gives checked tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import polars as pl

REJECTED: dict[str, pl.DataType] = {
    "file": pl.String(),
    "line": pl.Int64(),
    "reason": pl.String(),
    "text": pl.String(),
}


def typed_options(options: Mapping[str, Any]) -> str:
    """Options of a reader as they are typed on the command line; those of None are left out."""
    typed: list[str] = []
    for name, value in options.items():
        many = value if isinstance(value, list | tuple) else [value]
        if value is not None and many:
            typed += ["--" + name.replace("_", "-"), *(shlex.quote(str(one)) for one in many)]
    return " ".join(typed)


def prepare_command(reader: str, path: Path, options: Mapping[str, Any]) -> str:
    """The command that reads a path with these options of a reader."""
    where = " ".join([reader, "--path", shlex.quote(str(path)), typed_options(options)]).rstrip()
    return f"recloom data prepare {where} --out DIR"


def column_list(names: Sequence[str] | None) -> list[str]:
    """Names of columns that were separated by spaces or by commas."""
    return [name for word in names or [] for name in word.split(",")]


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
    encoding: str = "auto"
    """Of the text files, where it was named."""

    @property
    def timed(self) -> bool:
        """Whether the source has times, not only an order."""
        return "timestamp" in self.interactions.columns


class Reader(Protocol):
    """Reads one raw data format. The first line of its docstring stands in `recloom data list`.

    The arguments of its constructor, each with a type and a default, are the options that `recloom data prepare NAME`
    takes for it; their descriptions are read from the section `Args:` of its docstring.
    """

    name: ClassVar[str]
    licence: ClassVar[str]
    url: ClassVar[str | None]

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether `path` (a file or a folder) looks like this format; reads a few lines at most."""
        ...

    def read(self, path: Path) -> RawTables:
        """Read everything. Raises DataError when the format is not what it promises."""
        ...


def core_readers() -> list[type[Reader]]:
    """The readers that come with Recloom, most specific first."""
    from .amazon import Amazon
    from .mind import Mind
    from .movielens import MovieLens
    from .netflix import Netflix
    from .recbole import RecBole
    from .sequences import Sequences
    from .table import Table
    from .tallrec import TALLRec
    from .yoochoose import Yoochoose

    return [MovieLens, Mind, Amazon, Netflix, Yoochoose, TALLRec, RecBole, Sequences, Table]
