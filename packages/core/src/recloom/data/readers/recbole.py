"""RecBole's files of sequences: a user, the list of items before, and the next item a line.

W. X. Zhao et al., RecBole: Towards a Unified, Comprehensive and Efficient Framework for Recommendation Algorithms, CIKM
2021. Such a file may have a line for each prefix of a user's sequence; the sequence is put together from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from . import RawTables, no_rejections
from .delimited import Delimited, header_of, valid_rows
from .values import ROLES, untyped

PARTS = ("train", "valid", "test")
LIST = "_list"


class RecBole:
    """RecBole's .inter files with lists (item_id_list:token_seq), one or .train, .valid and .test of a folder."""

    name: ClassVar[str] = "recbole"
    licence: ClassVar[str] = "as stated by the publisher of the files"
    url: ClassVar[str | None] = None

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether the header names a user, an item and the list of items before it."""
        try:
            _columns(_files(path)[0])
        except DataError:
            return False
        return True

    def read(self, path: Path) -> RawTables:
        """Read sequences, in their order; of several files the column `part` says in which an item is the target."""
        files = _files(path)
        tables = [_read(file) for file in files]
        rows, bad = [rows for rows, _ in tables], pl.concat([no_rejections(), *(bad for _, bad in tables)])
        merged, separate = _merged(rows)
        raw = RawTables(merged if len(files) > 1 else merged.drop("part"), files, rejected=bad)
        names = ", ".join(f"{name} as {role}" for role, name in _columns(files[0]).items())
        raw.notes.append(
            f"columns: {names}; the list of each row comes before its {_columns(files[0])['item_id']}"
        )
        if separate:
            raw.notes.append(
                f"warning: rows of {separate:,} users do not continue one another, so they are joined in their order"
            )
        return raw


def _files(path: Path) -> list[Path]:
    """The file itself, or those of the parts in a folder."""
    if path.is_file():
        return [path]
    found = [file for part in PARTS for file in sorted(path.glob(f"*.{part}.inter"))]
    if not found or len(found) > len({file.suffixes[-2] for file in found}):
        raise DataError(f"{path} holds {len(found)} files such as NAME.train.inter. Name one in --path.")
    return found


def _columns(path: Path) -> dict[str, str]:
    """`user_id`, `item_id` and `list` to the columns of a header. Raises DataError where it has none."""
    names = header_of(path, "\t")
    plain = {untyped(name).lower(): name for name in names}
    user = next((plain[name] for name in ROLES["user_id"] if name in plain), None)
    item = next((plain[name] for name in ROLES["item_id"] if name in plain and name + LIST in plain), None)
    if user is None or item is None:
        raise DataError(
            f"{path}, line 1: expected a user, an item and a list, such as user_id:token, item_id_list:token_seq and "
            f"item_id:token, found {', '.join(names)}."
        )
    return {"user_id": user, "item_id": item, "list": plain[untyped(item).lower() + LIST]}


def _read(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    renamed = {name: role for role, name in _columns(path).items()}
    names = tuple(renamed.get(name, f"other_{name}") for name in header_of(path, "\t"))
    layout = Delimited(path, names, "\t", quote=None)
    frame, lossy = layout.read(dict.fromkeys(renamed.values(), pl.String()))
    good, bad = valid_rows(frame, layout, lossy, ("user_id", "item_id"))
    part = next((part for part in PARTS if f".{part}." in path.name), "train")
    items = pl.col("list").fill_null("").str.extract_all(r"\S+")
    return good.with_columns(items, pl.lit(part).alias("part")), bad


def _merged(tables: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, int]:
    """One row for each interaction: `user_id`, `item_id`, `part`, `file`, `line`; and users of separate rows."""
    rows = pl.concat(
        [table.with_columns(pl.lit(n, pl.UInt16).alias("file")) for n, table in enumerate(tables)]
    )
    length = pl.col("list").list.len()
    users = rows.with_row_index("place").sort(length, "place").group_by("user_id", maintain_order=True)
    order = rows.select(pl.col("user_id").unique(maintain_order=True)).with_row_index("user")
    found: list[tuple[str, str, str, int, int]] = []
    separate = 0
    for (user,), own in users:
        sequence, apart = _sequence(own.select("list", "item_id", "part", "file", "line").rows())
        found += [(str(user), *one) for one in sequence]
        separate += apart
    kinds = {
        "user_id": pl.String,
        "item_id": pl.String,
        "part": pl.String,
        "file": pl.UInt16,
        "line": pl.UInt32,
    }
    merged = pl.DataFrame(found, schema=kinds, orient="row")
    return merged.join(order, on="user_id", maintain_order="left").sort("user", maintain_order=True).drop(
        "user"
    ), separate


Row = tuple[list[str], str, str, int, int]
Found = tuple[str, str, int, int]


def _sequence(rows: Sequence[Row]) -> tuple[list[Found], bool]:
    """A user's sequence from rows of (items before, item, part, file, line); whether rows had to be joined."""
    forwards, breaks = _chained(rows)
    if breaks:
        backwards, fewer = _chained(rows[::-1])
        if fewer < breaks:
            return backwards, fewer > 0
    return forwards, breaks > 0


def _chained(rows: Sequence[Row]) -> tuple[list[Found], int]:
    """Rows that continue what is there add their item; how many did not, so that all of their items were added."""
    found: list[Found] = []
    breaks = 0
    for before, item, part, file, line in rows:
        known = [one[0] for one in found]
        start = len(known) - len(before)
        if found and before and start >= 0 and known[start:] == before:
            pass
        elif known == before[: len(known)]:
            found += [(one, "train", file, line) for one in before[len(known) :]]
        else:
            breaks += 1
            found += [(one, "train", file, line) for one in before]
        found.append((item, part, file, line))
    return found, breaks
