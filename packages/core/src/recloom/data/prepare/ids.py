"""Ids as they are meant: 101.0 is 101 where a whole column is written so, and NULL is no id; all of it is noted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import polars as pl

from ...errors import DataError
from ..readers import RawTables
from ..readers.values import MISSING, whole_ids, whole_keys
from .encode import as_numbers, settle_numpy
from .rejected import rejected_rows

IDS = ("user_id", "item_id")
UNKNOWN = 0.05
"""The share of items without a record from which on this is a warning."""
SHORTENED = r"^-?\d[.,]\d{2,}[eE]\+\d{2,}$"
"""`1.23457E+12`, as spreadsheets show long numbers."""
EXPONENT = r"^-?\d+([.,]\d+)?[eE]\+?\d+$"
"""`1e+05`, as R and others write numbers; `1e5` may be a number or a word."""
LISTED = r'^\s*\[\s*(["\d\[{-].*)?\]\s*$'
"""Lists as JSON and Python write them."""
_NUMBER = r"^[+-]?\d+([.,]\d+)?$"


def clean_ids(raw: RawTables) -> None:
    """Mend the ids of a reader's tables: whole numbers lose their `.0`, rows whose id is a word for none are rejected.

    A word such as NULL is no id where most others of the column are numbers; elsewhere it may be a name, and is noted.
    Where all ids of a column of the interactions are plain whole numbers, they become such (`as_numbers`).
    """
    settle_numpy()
    with ThreadPoolExecutor(len(IDS)) as pool:  # these spend their time outside the interpreter's lock
        raw.interactions = raw.interactions.with_columns(pool.map(as_numbers, raw.interactions.select(IDS)))
    texts = [name for name in IDS if _some_text(raw.interactions[name])]
    for name in texts:
        _reject_missing(raw, name)
        raw.interactions = whole_ids(raw.interactions, name, raw.notes)
    for name, table in (("item_id", raw.items), ("user_id", raw.users)):
        if table is not None and table.height and _some_text(table[name]):
            table = whole_keys(table, name, raw.notes)
            raw.items, raw.users = (
                (table, raw.users) if name == "item_id" else (raw.items, table)
            )  # fmt: skip
    raw.notes += [note for name in texts for note in _damaged(name, raw.interactions[name])]
    if texts and raw.impressions is None:
        raw.notes += _lists(raw)


def unknown_items(raw: RawTables) -> str:
    """A warning where many items of the interactions have no record; empty where few have none."""
    if raw.items is None or not raw.interactions.height:
        return ""
    met = raw.interactions.select(pl.col("item_id").unique(maintain_order=True).cast(pl.String))
    lost = met.join(raw.items, on="item_id", how="anti", maintain_order="left")
    if lost.height <= UNKNOWN * met.height:
        return ""
    example = f", and records have ids such as {raw.items['item_id'][0]!r}" if raw.items.height else ""
    hint = _would_match(lost["item_id"], raw.items["item_id"])
    return (
        f"warning: {lost.height:,} of {met.height:,} items of the interactions ({lost.height / met.height:.0%}) have "
        f"no record, such as {lost['item_id'][0]!r}{example}. Are the ids of both files the same?{hint}"
    )


def _would_match(lost: pl.Series, records: pl.Series) -> str:
    """What the ids differ in, where most that have no record would have one without it."""
    forms = {
        "leading zeros": (lost.str.strip_chars_start("0"), records.str.strip_chars_start("0")),
        "capitals": (lost.str.to_lowercase(), records.str.to_lowercase()),
        "how accents are composed (NFC, NFD)": (lost.str.normalize("NFC"), records.str.normalize("NFC")),
    }
    for what, (ids, others) in forms.items():
        if 2 * ids.is_in(others.implode()).sum() > len(lost):
            return f" They differ in {what}: write them alike in both."
    return ""


def _damaged(name: str, ids: pl.Series) -> list[str]:
    """Warnings of ids that a spreadsheet has shortened, and of ids that look alike and are not the same."""
    notes = []
    short = ids.str.contains(SHORTENED).fill_null(False)
    if count := int(short.sum()):
        notes.append(
            f"warning: {count:,} of {len(ids):,} rows have the {name} {ids.filter(short)[0]} or such, as spreadsheets "
            "shorten long numbers, so different ids may have become one. Export the column as text from the source"
        )
    raised = ids.str.contains(EXPONENT).fill_null(False) & ~short
    if not ids.filter(raised).str.contains("+", literal=True).any() and not _all_numbers(ids):
        raised &= False
    if count := int(raised.sum()):
        notes.append(
            f"warning: {count:,} of {len(ids):,} rows have the {name} {ids.filter(raised)[0]} or such, a number with "
            "an exponent, which is read as text and is not the id that has all its digits. Write the column as whole "
            "numbers, or as text from the source"
        )
    other = ids.filter(ids.str.contains(r"[^\x00-\x7f]").fill_null(False)).unique(maintain_order=True)
    if len(other):
        composed = other.str.normalize("NFC")
        twice = other.filter(composed.is_duplicated())
        if len(twice):
            notes.append(
                f"warning: {len(twice):,} of {name}, such as {twice[0]}, look like others and differ in the way in "
                "which accents are composed (NFC, NFD), so they count as different. Write them alike"
            )
    return notes


def _some_text(ids: pl.Series) -> bool:
    """Whether not all ids are plain whole numbers; these need no look at single ones."""
    return ids.dtype == pl.String and any(
        column.cast(pl.Int64, strict=False).null_count() > column.null_count()
        for column in (ids.head(1000), ids)
    )


def _reject_missing(raw: RawTables, name: str) -> None:
    rows = raw.interactions
    short = (
        rows[name].filter(rows[name].str.len_bytes() <= max(map(len, MISSING))).unique(maintain_order=True)
    )
    words = short.filter(short.str.strip_chars().str.to_lowercase().is_in(list(MISSING))).to_list()
    if not words:
        return
    missing = rows[name].is_in(words)
    count, others = int(missing.sum()), rows[name].filter(~missing).head(1000)
    listed = ", ".join(words)
    if not len(others) and rows.height > 1:
        raise DataError(
            f"all {rows.height:,} rows have the {name} {listed}, which means no value. Name another column in "
            f"--{name.removesuffix('_id')}-column."
        )
    if not len(others) or 2 * others.str.contains(_NUMBER).sum() <= len(others):
        raw.notes.append(
            f"warning: {count:,} of {rows.height:,} rows have the {name} {listed}, kept as it is written. Where it "
            "means no value, leave these rows out of the file"
        )
        return
    gone = rows.filter(missing)
    reasons = gone.select(pl.format(f"{name} is empty ({{}})", pl.col(name)).alias("reason"))["reason"]
    raw.rejected = pl.concat([raw.rejected, rejected_rows(gone, raw.files, reasons, raw.encoding)])
    raw.interactions = rows.filter(~missing)
    raw.notes.append(f"{count:,} of {rows.height:,} rows have no {name} ({listed}), and are left out")


def _lists(raw: RawTables) -> list[str]:
    """A warning where ids are lists of ids."""
    found = []
    for name in IDS:
        whole = raw.interactions[name].cast(pl.String)
        listed = whole.str.contains(LISTED).fill_null(False)
        sample = whole.head(1000)
        lists = sample.str.contains(r"^\s*([\[({].*[,;|\s].*[\])}]|\[.*\])\s*$") | sample.str.contains(
            r"^(\w*\d\w*[ |;,]+){2,}\w*\d\w*$"
        )
        if len(sample) and 2 * lists.sum() > len(sample):
            found.append(
                f"warning: {name} holds lists, such as {sample.filter(lists)[0][:60]!r}, each of which is taken for "
                "one id. Write one row for each of its members"
            )
        elif count := int(listed.sum()):
            found.append(
                f"warning: {count:,} of {len(whole):,} rows have a list as {name}, such as "
                f"{whole.filter(listed)[0][:60]!r}, which is taken for one id. Write one row for each of its members"
            )
    return found


def _all_numbers(ids: pl.Series) -> bool:
    """Whether all ids are numbers, and more than half of them are written without an exponent."""
    numbers = ids.cast(pl.Float64, strict=False)
    return bool(numbers.null_count() == ids.null_count() and 2 * ids.str.contains(_NUMBER).sum() > len(ids))
