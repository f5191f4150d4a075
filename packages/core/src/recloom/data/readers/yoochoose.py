"""Yoochoose: `yoochoose-clicks.dat` and `yoochoose-buys.dat`, sessions of a shop, without a header row.

D. Ben-Shimon et al., RecSys Challenge 2015 and the YOOCHOOSE Dataset, RecSys 2015. A click is
`session,2014-04-07T10:51:09.277Z,item,category`, a purchase `session,time,item,price,quantity`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from . import RawTables, no_rejections
from .delimited import Delimited, valid_rows
from .text import opening, rejections
from .values import part_rows

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
CLICK = re.compile(rf"\d+,{TIME},\d+,(S|\d*)")
BUY = re.compile(rf"\d+,{TIME},\d+,\d*,\d*")
COLUMNS = {
    "click": ("user_id", "timestamp", "item_id", "category"),
    "buy": ("user_id", "timestamp", "item_id", "price", "quantity"),
}
"""What the columns are, by what the rows of a file are."""
LOOKED_AT = 20
NAME = re.compile("yoochoose|click|buy", re.IGNORECASE)
"""What names of its files hold: lines of another table, such as user, time, item and rating, may look like clicks."""


class Yoochoose:
    """Yoochoose (RecSys Challenge 2015): a folder of yoochoose-clicks.dat and yoochoose-buys.dat, or one of them."""

    name: ClassVar[str] = "yoochoose"
    licence: ClassVar[str] = "Yoochoose: CC BY-NC-ND 4.0; see the README of the set"
    url: ClassVar[str | None] = "https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015"

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether files of such names begin with clicks or purchases as Yoochoose writes them."""
        try:
            return all(NAME.search(file.name) for file in _files(path).values())
        except DataError:
            return False

    def read(self, path: Path) -> RawTables:
        """Read clicks and purchases as events `click` and `buy` of users that are sessions.

        `category` is text: `S` (a special offer), `0` (none known), `1` to `12`, or the id of a brand.
        """
        files = _files(path)
        tables = [_read(file, kind, place) for place, (kind, file) in enumerate(files.items())]
        rows = pl.concat([good for good, _, _ in tables], how="diagonal")
        notes = [
            f"{file.name}: {table.height:,} rows are the event `{kind}`; {', '.join(COLUMNS[kind])} by their places"
            for (kind, file), (table, _, _) in zip(files.items(), tables, strict=True)
        ]
        notes += [note for *_, more in tables for note in more]
        notes.append("each session is a user, since a session does not say whose it is")
        if "click" in files:
            said = rows["category"].drop_nulls()
            offers, none = int((said == "S").sum()), int((said == "0").sum())
            notes.append(
                f"category is kept as text: {offers:,} of S (special offer), {none:,} of 0 (none known)"
            )
        if path.is_file():
            other = "buy" if "click" in files else "click"
            beside = [file for file in path.parent.glob("*.dat*") if file != path and _kind(file) == other]
            notes += [
                f"{beside[0].name} beside it is not read: give the folder to have both" for _ in beside[:1]
            ]
        return RawTables(
            rows, [*files.values()], rejected=pl.concat([bad for _, bad, _ in tables]), notes=notes
        )


def _files(path: Path) -> dict[str, Path]:
    """`click` and `buy` to their files: the file itself, or those of a folder. Raises DataError for none, and for two.

    The clicks of test sessions, whose purchases were never published, are not read with the others.
    """
    inside = [path] if path.is_file() else [*path.glob("*clicks*.dat*"), *path.glob("*buys*.dat*")]
    found: dict[str, Path] = {}
    for file in sorted(inside):
        kind = _kind(file)
        if kind is None:
            continue
        if kind in found:
            raise DataError(
                f"{path} holds two files of {kind}s, {found[kind].name} and {file.name}. Name one in --path."
            )
        found[kind] = file
    if not found:
        raise DataError(
            f"{path}: expected yoochoose-clicks.dat or yoochoose-buys.dat, with lines such as "
            "1,2014-04-07T10:51:09.277Z,214536502,0 and no header. Check --path."
        )
    return found


def _kind(file: Path) -> str | None:
    try:
        lines = [line.strip() for line in opening(file, LOOKED_AT) if line.strip()]
    except DataError:
        return None
    kinds = [kind for kind, form in (("click", CLICK), ("buy", BUY)) if all(map(form.fullmatch, lines))]
    return kinds[0] if kinds else None


def _read(path: Path, kind: str, place: int) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    layout = Delimited(path, COLUMNS[kind], ",", header=False, quote=None)
    frame, lossy = layout.read(dict.fromkeys(COLUMNS[kind], pl.String()))
    time = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", strict=False, time_unit="ms")
    good, bad = valid_rows(
        frame.with_columns(time.dt.epoch("s").alias("timestamp")), layout, lossy, ("user_id", "item_id")
    )
    numbers = [name for name in ("price", "quantity") if name in good.columns]
    wrong = [
        (
            pl.col(name).is_not_null() & pl.col(name).cast(pl.Int64, strict=False).is_null(),
            f"{name} is no whole number",
        )
        for name in numbers
    ]
    good, failed = part_rows(good, wrong) if wrong else (good, good.clear())
    table = pl.concat([no_rejections(), bad])
    if failed.height:
        table = pl.concat([table, rejections(path, failed["line"], failed["reason"])])
    return (
        good.with_columns(
            pl.col(numbers).cast(pl.Int64),
            pl.lit(kind).alias("event"),
            pl.lit(place, pl.UInt16).alias("file"),
        ),
        table,
        layout.notes,
    )
