"""Amazon reviews as JSON lines: the releases of 2014, 2018 and 2023, and their metadata.

J. Ni, J. Li, J. McAuley, EMNLP 2019 (2014, 2018); Y. Hou et al., Bridging Language and Items for
Retrieval and Recommendation, 2024 (2023: other keys, and times in milliseconds).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl

from ...errors import DataError
from . import RawTables, column_list
from .delimited import placed_names
from .jsonlines import read_json_lines
from .text import first_of_each, opening, rejections
from .values import part_rows, row_checks, to_seconds

ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


@dataclass(frozen=True)
class Release:
    """The keys of one release."""

    user: str
    item: str
    value: str
    time: str
    metadata: tuple[str, ...]
    """Keys kept from the metadata, beside the item's."""


OLD = Release(
    "reviewerID", "asin", "overall", "unixReviewTime",
    ("title", "brand", "category", "categories", "price", "description", "feature"),
)  # fmt: skip
NEW = Release(
    "user_id", "parent_asin", "rating", "timestamp",
    ("title", "main_category", "store", "categories", "price", "description", "features", "average_rating"),
)  # fmt: skip


class Amazon:
    """Amazon reviews of 2014, 2018 or 2023 (JSON lines, .gz too), with the meta_ file beside them.

    Args:
        items_path: files of metadata, where they are not beside the reviews.
        keep_columns: further keys of a review to keep beside each interaction, such as reviewText.
    """

    name: ClassVar[str] = "amazon"
    licence: ClassVar[str] = "published by the McAuley Lab (UCSD) for research; the site states no licence"
    url: ClassVar[str | None] = None

    def __init__(self, items_path: list[Path] | None = None, keep_columns: list[str] | None = None) -> None:
        self.items_path, self.keep_columns = items_path or [], column_list(keep_columns)

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether the first object has the keys of a release."""
        try:
            _release(_reviews_file(path))
        except DataError:
            return False
        return True

    def read(self, path: Path) -> RawTables:
        """Read reviews and metadata; further keys of a review, such as reviewText, with `--keep-columns`."""
        reviews = _reviews_file(path)
        keys = _release(reviews)
        names = {"user_id": keys.user, "item_id": keys.item, "value": keys.value, "timestamp": keys.time}
        columns = list(dict.fromkeys([*names.values(), *self.keep_columns]))
        called = placed_names(columns, dict(enumerate(names)))
        notes: list[str] = []
        frame, broken = read_json_lines(reviews, dict(zip(columns, called, strict=True)), notes=notes)
        times, taken_for = to_seconds(frame["timestamp"])
        frame = frame.with_columns(pl.col("value").cast(pl.Float32, strict=False), times.alias("timestamp"))
        good, failed = part_rows(frame, row_checks(frame.schema, ("user_id", "item_id")))
        bad = pl.concat([broken, rejections(reviews, failed["line"], failed["reason"])])
        release = "2023" if keys is NEW else "2014 or 2018"
        raw = RawTables(
            good, [reviews], rejected=bad, notes=[f"release: {release}", f"times: {taken_for}", *notes]
        )
        _add_metadata(raw, keys, self.items_path or _metadata_files(reviews))
        return raw


def _reviews_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path} does not exist. Check --path.")
    found = [f for f in sorted(path.iterdir()) if f.name.endswith(ENDINGS) and not f.name.startswith("meta_")]
    if len(found) != 1:
        raise DataError(
            f"{path} holds {len(found)} files of reviews (.json, .jsonl, .gz), not one. Name it in --path."
        )
    return found[0]


def _release(path: Path) -> Release:
    if not path.name.endswith(ENDINGS):
        raise DataError(f"{path} does not end in .json, .jsonl or .gz, as Amazon reviews do.")
    for line in opening(path, 20):
        try:
            keys = set(json.loads(line))
        except (ValueError, TypeError, RecursionError):
            continue
        for release in (OLD, NEW):
            if {release.user, release.item, release.value} <= keys:
                return release
    raise DataError(
        f"{path}: no review in the first lines. Expected objects with {OLD.user}, {OLD.item}, {OLD.value} "
        f"(2014, 2018) or {NEW.user}, {NEW.item}, {NEW.value} (2023), one a line."
    )


def _metadata_files(reviews: Path) -> list[Path]:
    """The meta_ files beside the reviews: of the same category where the name says so, else the only one."""
    found = sorted(f for f in reviews.parent.glob("meta_*") if f.name.endswith(ENDINGS))
    stem = reviews.name.split(".")[0].removeprefix("reviews_").removesuffix("_5")
    same = [file for file in found if file.name.split(".")[0] == f"meta_{stem}"]
    return same or (found if len(found) == 1 else [])


def _add_metadata(raw: RawTables, keys: Release, files: list[Path]) -> None:
    if not files:
        raw.notes.append(
            "no meta_ file beside the reviews: the items have no titles (or name it in --items-path)"
        )
        return
    tables = []
    for file in files:
        table, bad = read_json_lines(
            file, [keys.item, *keys.metadata], python_literals=keys is OLD, notes=raw.notes
        )
        table = table.rename({keys.item: "item_id"})
        good, failed = part_rows(table, row_checks({}, ("item_id",)))
        good, again = first_of_each(good, "item_id", file)
        tables.append(good.drop("line"))
        side = rejections(file, failed["line"], failed["reason"])
        raw.rejected_items = pl.concat([raw.rejected_items, bad, side, again])
    items = pl.concat(tables).unique("item_id", keep="first", maintain_order=True)
    items = items.select(column for column in items if column.null_count() < items.height)
    raw.items = items.with_columns(_flat(name) for name in items.columns if name not in ("item_id", "title"))
    raw.files += files
    raw.notes.append(f"metadata: {raw.items.height:,} items")


def _flat(name: str) -> pl.Expr:
    """Lists of texts, written as JSON, joined by `; `; other values stay as they are."""
    column = pl.col(name)
    inner = column.str.replace_all(r'^\[+"?|"?\]+$', "").str.replace_all(r'"\]?,\s*\[?"', "; ")
    text = inner.str.replace_all(r'\\"', '"').str.replace_all(r"\\n", " ")
    return pl.when(column.str.starts_with("[")).then(text.replace("", None)).otherwise(column).alias(name)
