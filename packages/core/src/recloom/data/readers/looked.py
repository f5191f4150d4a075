"""One table of a folder as its header and first rows show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from .delimited import Delimited, guess_separator, placed_names
from .jsonlines import first_objects, read_json_lines
from .partitions import with_partitions
from .quoting import cells_of
from .table_columns import IDS, fixed_columns
from .text import kind_of, opening

if TYPE_CHECKING:
    from .table import Table

SAMPLE = 20_000
"""Rows of a table that are looked at, where not all are needed."""


@dataclass(frozen=True)
class Looked:
    """A table, its columns, and what they are taken for."""

    path: Path
    names: tuple[str, ...]
    """Its columns, `fixed` ones last."""
    reader: Table
    roles: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Where it is in the folder."""
        assert self.reader.folder is not None
        return self.path.relative_to(self.reader.folder).as_posix()

    @cached_property
    def fixed(self) -> dict[str, str | None]:
        """Columns whose value stands in the names of folders."""
        return fixed_columns(self.path, self.reader)

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The columns of the file itself."""
        return tuple(name for name in self.names if name not in self.fixed)

    @cached_property
    def sample(self) -> pl.DataFrame:
        """The first rows, as text; rows of another width are left out."""
        return with_partitions(self.own_sample, self.fixed).select(self.names)

    @cached_property
    def own_sample(self) -> pl.DataFrame:
        """The first rows, as text, of the columns of the file itself."""
        kind = kind_of(self.path, self.reader.encoding)
        if kind == "parquet":
            frame = pl.scan_parquet(self.path, glob=False).head(SAMPLE).collect()
            return frame.select(pl.exclude(pl.List, pl.Struct, pl.Array).cast(pl.String, strict=False))
        if kind == "json":
            some = first_objects(self.path, self.reader.encoding, SAMPLE)
            return pl.DataFrame(
                {name: [_word(one.get(name)) for one in some] for name in self.own},
                schema=dict.fromkeys(self.own, pl.String()),
            )
        lines = opening(self.path, SAMPLE, self.reader.encoding)[1:]
        separator = self.separator
        rows = [cells_of(line, separator, self.reader.quote) for line in lines]
        rows = [row for row in rows if len(row) == len(self.own)]
        return pl.DataFrame(rows, schema=dict.fromkeys(self.own, pl.String()), orient="row")

    @property
    def told(self) -> pl.DataFrame:
        """The first rows, with the columns of folders only where they are users or items."""
        ids = [self.roles[role] for role in IDS if role in self.roles]
        return self.sample.select([*dict.fromkeys([*self.own, *ids])])

    @property
    def separator(self) -> str:
        return self.reader.separator or guess_separator(self.path, self.reader.encoding)

    def distinct(self, column: str) -> bool:
        """Whether no value of a column comes again in the sample."""
        values = plain_ids(self.sample[column]) if column in self.sample.columns else pl.Series([""])
        return len(values) > 1 and values.n_unique() == len(values)

    def every(self, column: str) -> pl.Series:
        """All values of a column, as ids are compared."""
        if column in self.fixed:
            return pl.repeat(self.fixed[column], len(self.every(self.own[0])), dtype=pl.String, eager=True)
        kind = kind_of(self.path, self.reader.encoding)
        if kind == "parquet":
            values = pl.read_parquet(self.path, columns=[column], glob=False)[column].cast(
                pl.String, strict=False
            )
        elif kind == "json":
            values = read_json_lines(self.path, [column], encoding=self.reader.encoding)[0][column]
        else:
            names = placed_names(self.own, {self.own.index(column): "key"})
            layout = Delimited(
                self.path, names, self.separator, True, self.reader.quote, self.reader.encoding
            )
            values = layout.read({"key": pl.String()})[0]["key"]
        return plain_ids(values)


def plain_ids(values: pl.Series) -> pl.Series:
    """Ids as they are compared: without spaces around them and without .0, and none that is empty."""
    plain = values.cast(pl.String).str.strip_chars().str.replace(r"^(-?\d+)\.0+$", "$1")
    return plain.filter((plain != "") & plain.is_not_null()).alias("id")


def _word(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
