"""MIND: `behaviors.tsv` and `news.tsv`, which have no header row, so that row 1 is data.

F. Wu et al., MIND: A Large-scale Dataset for News Recommendation, ACL 2020.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from . import RawTables
from .delimited import Delimited, keyed_rows, placed_names, valid_rows
from .text import opening, rejections
from .values import part_rows

BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
NEWS = (
    "item_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities",
)  # fmt: skip
PARTS = ("train", "dev", "valid", "test")
TIME = "%m/%d/%Y %I:%M:%S %p"


class Mind:
    """MIND news: behaviors.tsv and news.tsv, in one folder or in one folder per part (train, dev, test)."""

    name: ClassVar[str] = "mind"
    licence: ClassVar[str] = "Microsoft Research Licence: non-commercial use; see the terms of MIND"
    url: ClassVar[str | None] = None

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether there is a behaviours file with five tab-separated columns and a time as MIND writes it."""
        try:
            first = opening(_parts(path)[0], 2)[-1].split("\t")
        except DataError:
            return False
        return len(first) >= 5 and pl.Series([first[2]]).str.to_datetime(TIME, strict=False).null_count() == 0

    def read(self, path: Path) -> RawTables:
        """Read impressions and news; clicks become interactions, and so does the history of each user.

        The clicks of a user's history have no times of their own: those of the user's first impression are
        placed in the seconds just before it, with event `history`; later clicks have event `click`.
        """
        files = _parts(path)
        _refuse_several_sets(path, files)
        notes: list[str] = []
        behaviors = [_read_behaviors(file, place, notes) for place, file in enumerate(files)]
        frame = pl.concat([good for good, _ in behaviors])
        if len(files) == 1:
            frame = frame.drop("part")
        news = [file.with_name(file.name.replace("behaviors", "news")) for file in files]
        raw = RawTables(
            _interactions(frame),
            files,
            impressions=_impressions(frame),
            rejected=pl.concat([bad for _, bad in behaviors]),
            notes=[
                f"behaviors: {frame.height:,} impressions in {len(files)} file{'s' * (len(files) > 1)}",
                *notes,
            ],
        )
        _add_news(raw, [file for file in news if file.is_file()])
        return raw


def _parts(path: Path) -> list[Path]:
    """The behaviours files: the file itself, the one in the folder, or one in each folder below."""
    if path.is_file() and path.name.startswith("behaviors"):
        return [path]
    if (path / "behaviors.tsv").is_file():
        return [path / "behaviors.tsv"]
    found = [file for file in path.glob("*/behaviors.tsv") if any(part in file.parent.name for part in PARTS)]
    if not found:
        raise DataError(
            f"{path}: no behaviors.tsv there, nor in folders named after train, dev, valid or test."
        )
    return sorted(found, key=lambda file: [part not in file.parent.name for part in PARTS])


def _refuse_several_sets(path: Path, files: list[Path]) -> None:
    """One folder per part is one set; any other folder of behaviours beside them is another set."""
    if path.is_file() or files[0].parent == path:
        return
    folders = sorted(file.parent.name for file in path.glob("*/behaviors.tsv"))
    parts = [next(part for part in PARTS if part in file.parent.name) for file in files]
    if len(folders) > len(files) or len(set(parts)) < len(parts):
        raise DataError(
            f"{path} holds several sets of behaviours, in {', '.join(folders)}. Name one folder in --path, such as "
            f"--path {shlex.quote(str(path / folders[0]))}."
        )


def _layout(path: Path, names: tuple[str, ...], first_cell: str, notes: list[str]) -> Delimited:
    """A TSV without quotes; a header row only where the first cell is its known name."""
    cells = opening(path, 1)[0].split("\t")
    header = cells[0] == first_cell
    if len(cells) < len(names):
        raise DataError(
            f"{path}, line 1: expected {len(names)} tab-separated columns "
            f"({', '.join(names)}), found {len(cells)}. Is this the file that Microsoft publishes?"
        )
    names = placed_names((*names, *cells[len(names) :]), dict(enumerate(names))) if header else names
    return Delimited(path, names, "\t", header, quote=None, notes=notes)


def _read_behaviors(path: Path, place: int, notes: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    layout = _layout(path, BEHAVIORS, "impression_id", notes)
    frame, lossy = layout.read({name: pl.String() for name in BEHAVIORS})
    good, bad = valid_rows(frame, layout, lossy, ("impression_id", "user_id"))
    shown = pl.col("impressions").fill_null("").str.extract_all(r"\S+")
    frame = good.select(
        "line", "impression_id", "user_id",
        pl.col("time").str.to_datetime(TIME, strict=False).dt.epoch("s").alias("timestamp"),
        pl.col("history").fill_null("").str.extract_all(r"\S+"),
        shown.list.eval(pl.element().str.replace(r"-[01]$", "")).alias("candidates"),
        shown.list.eval(pl.element().str.extract(r"-([01])$").cast(pl.Int8)).alias("labels"),
        pl.lit(place, pl.UInt16).alias("file"),
        pl.lit(path.parent.name).alias("part"),
    )  # fmt: skip
    partly = pl.col("labels").list.eval(pl.element().is_null()).list
    checks = [
        (pl.col("timestamp").is_null(), "time is not like 11/15/2019 9:55:12 AM"),
        (pl.col("candidates").list.len() == 0, "no impressions"),
        (partly.any() & ~partly.all(), "some impressions are without -0 or -1"),
    ]
    good, failed = part_rows(frame, checks)
    return good, pl.concat([bad, rejections(path, failed["line"], failed["reason"])])


def _impressions(frame: pl.DataFrame) -> pl.DataFrame:
    """One row each, in file order; labels are empty where the source holds them back (test)."""
    columns = ["impression_id", "user_id", "timestamp", "history", "candidates", "labels"]
    return frame.select(*columns, *(["part"] if "part" in frame.columns else [])).with_columns(
        pl.col("labels").list.drop_nulls()
    )


def _interactions(frame: pl.DataFrame) -> pl.DataFrame:
    columns = ["user_id", "item_id", "timestamp", "event", "line", "file"]
    first = frame.sort("timestamp", maintain_order=True).unique("user_id", keep="first", maintain_order=True)
    before = first.select(
        "user_id", "timestamp", "line", "file", "history", pl.col("history").list.len().alias("n")
    )
    history = (
        before.filter(pl.col("n") > 0)
        .with_columns(pl.int_ranges(-pl.col("n").cast(pl.Int64), 0).alias("offset"))
        .explode("history", "offset")
        .with_columns(pl.col("timestamp") + pl.col("offset"), pl.lit("history").alias("event"))
        .rename({"history": "item_id"})
    )
    shown = frame.filter(pl.col("candidates").list.len() > 0).explode("candidates", "labels")
    clicks = shown.filter(pl.col("labels") == 1).rename({"candidates": "item_id"})
    return pl.concat(
        [history.select(columns), clicks.with_columns(pl.lit("click").alias("event")).select(columns)]
    )


def _add_news(raw: RawTables, files: list[Path]) -> None:
    """News of all parts, each once, as parts share many. Quotes added around the entities are removed."""
    if not files:
        raw.notes.append("no news.tsv beside the behaviours: the items have no titles")
        return
    tables = []
    for file in files:
        layout = _layout(file, NEWS, "news_id", raw.notes)
        table, bad = keyed_rows(layout, "item_id", NEWS[1:])
        tables.append(table)
        raw.rejected_items = pl.concat([raw.rejected_items, bad])
    quoted = pl.col("title_entities", "abstract_entities")
    plain = quoted.str.strip_chars('"').str.replace_all('""', '"', literal=True)
    news = pl.concat(tables).unique("item_id", keep="first", maintain_order=True)
    raw.items = news.with_columns(pl.when(quoted.str.starts_with('"')).then(plain).otherwise(quoted))
    raw.files += files
    raw.notes.append(f"news: {raw.items.height:,} with text")
