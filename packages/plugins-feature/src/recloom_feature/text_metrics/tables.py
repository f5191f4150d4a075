"""Reader of files of generated texts: Parquet, CSV or JSON lines, one text with its columns on each row."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from recloom.data import Catalog
from recloom.errors import DataError, RecloomError
from recloom.metrics import Reading, Texts

T = TypeVar("T")
READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": lambda path: pl.read_parquet(path, glob=False),
    ".csv": lambda path: pl.read_csv(path, infer_schema=False, glob=False),
    ".jsonl": lambda path: pl.read_ndjson(path, infer_schema_length=None),
    ".ndjson": lambda path: pl.read_ndjson(path, infer_schema_length=None),
}
USER = "user_id"
QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»')


@dataclass(frozen=True)
class Columns:
    """The columns of the file, by what they hold; None = not given."""

    text: str
    reference: str | None = None
    items: str | None = None
    cited: str | None = None
    named: str | None = None
    feature: str | None = None
    log_probs: str | None = None
    users: str | None = None
    """By default `user_id`, where the file has it."""


def read_texts(
    path: Path,
    columns: Columns,
    *,
    data: Path | None = None,
    quoted: bool = False,
    features: Path | None = None,
    reading: Reading | None = None,
) -> Texts:
    """Read a file of texts. Lists may be lists, or one text with `|` between; log-probabilities numbers or JSON.

    Args:
        data: prepared dataset with the items.
        quoted: the items that a text names are what it puts between double quotation marks.
        features: file with a feature on each line.

    Raises DataError for a file, a column or a value that is not what it should be.
    """
    table = _table(path)
    wanted = [name for name in vars(columns).values() if name is not None]
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        raise DataError(f"{path}: no column {absent[0]!r}; the columns are {', '.join(table.columns)}")
    if quoted and columns.named:
        raise RecloomError("give either --named COLUMN or --quoted, found both")
    users = columns.users or (USER if USER in table.columns else None)
    catalog = None if data is None else Catalog.load(data)
    text = _strings(table, columns.text, path)
    named = [quotations(one) for one in text] if quoted else _maybe(_lists, table, columns.named, path)
    if columns.items is not None and catalog is not None:
        _check_items(_strings(table, columns.items, path), catalog, f"{path}: column {columns.items!r}", data)
    return Texts(
        text=text,
        reference=_maybe(_strings, table, columns.reference, path),
        user=_maybe(_strings, table, users, path),
        item=_maybe(_strings, table, columns.items, path),
        cited=_maybe(_lists, table, columns.cited, path),
        named=named,
        feature=_maybe(_strings, table, columns.feature, path),
        features=_lines(features),
        log_probs=_maybe(_numbers, table, columns.log_probs, path),
        catalog=catalog,
        reading=reading or Reading(),
    )


def quotations(text: str) -> list[str]:
    """The parts between double quotation marks, of the English, German and French kind."""
    return [next(part for part in found if part) for found in QUOTED.findall(text)]


def _table(path: Path) -> pl.DataFrame:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {found}; expected a Parquet, CSV or JSON-lines file with a text a row")
    if path.suffix not in READERS:
        raise DataError(f"{path}: expected a file that ends in {', '.join(READERS)}; found {path.suffix!r}")
    try:
        table = READERS[path.suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error
    if not table.height:
        raise DataError(f"{path} holds no row; expected a text on each")
    return table


def _maybe(
    read: Callable[[pl.DataFrame, str, Path], Sequence[T]], table: pl.DataFrame, name: str | None, path: Path
) -> Sequence[T] | None:
    """A column, None where none was named."""
    return None if name is None else read(table, name, path)


def _strings(table: pl.DataFrame, name: str, path: Path) -> list[str]:
    kind = table.schema[name]
    if kind.is_nested():
        raise DataError(f"{path}: column {name!r} must hold one text a row; found {kind}")
    return table[name].cast(pl.String).fill_null("").to_list()


def _check_items(ids: list[str], catalog: Catalog, where: str, data: Path | None) -> None:
    unknown = [ids[at] for at in (catalog.item_index(ids) == 0).nonzero()[0]]
    if unknown:
        raise DataError(
            f"{where} must hold raw ids of items of {data}; {len(unknown):,} of {len(ids):,} are not, the first is "
            f"{unknown[0]!r}. Name the right column, or the dataset that the items come from."
        )


def _lists(table: pl.DataFrame, name: str, path: Path) -> list[list[str]]:
    kind = table.schema[name]
    if isinstance(kind, pl.List) and _cites(kind.inner):
        entry = pl.element().struct
        cited = pl.format("{}: {}", entry.field("attribute"), entry.field("value"))
        rows = table.select(pl.col(name).list.eval(cited))[name].to_list()
        parts = [[one for one in row or () if one is not None] for row in rows]
    elif isinstance(kind, pl.List | pl.Array) and not kind.inner.is_nested():
        rows = table[name].cast(pl.List(pl.String)).to_list()
        parts = [[one for one in row or () if one is not None] for row in rows]
    elif kind.is_nested():
        raise DataError(f"{path}: column {name!r} must hold lists of texts; found {kind}")
    else:
        parts = [one.split("|") for one in _strings(table, name, path)]
    return [[one.strip() for one in row if one.strip()] for row in parts]


def _cites(kind: Any) -> bool:
    """Whether entries name an attribute and its value, as `recloom profile --kind reason` writes them."""
    return isinstance(kind, pl.Struct) and {field.name for field in kind.fields} == {"attribute", "value"}


def _numbers(table: pl.DataFrame, name: str, path: Path) -> list[list[float]]:
    """Natural log-probabilities; what is null is padding."""
    rows: list[Any] = table[name].to_list()
    found = []
    for at, row in enumerate(rows):
        try:
            values = json.loads(row or "[]") if isinstance(row, str) else row
            numbers = [float(one) for one in values or () if one is not None]
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{path}, row {at + 1}: {name!r} must be a list of numbers; found {row!r}"
            ) from error
        wrong = [one for one in numbers if not (math.isfinite(one) and one <= 0)]
        if wrong:
            raise DataError(
                f"{path}, row {at + 1}: {name!r} must hold natural logarithms of probabilities, which are finite "
                f"and at most 0; found {wrong[0]}"
            )
        found.append(numbers)
    return found


def _lines(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected a file with a feature on each line")
    found = frozenset(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    if not found:
        raise DataError(f"{path} holds no feature; expected one on each line")
    return found
