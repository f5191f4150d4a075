"""Look at raw files or a prepared dataset and say what is good, noteworthy or wrong; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ...errors import DataError
from ...io import sha256
from ...schemas import DatasetCard, SplitSpec
from ..card import CARD, read_card
from ..readers import RawTables
from ..readers.values import ACCEPTED
from .ids import clean_ids, unknown_items
from .own_split import kept_note
from .reader_options import refuse_options
from .source import read_raw, recognise, refuse_pipe
from .ties import ties_in_words, ties_of
from .times import time_notes
from .unrated import no_rating_note

State = Literal["good", "note", "bad"]
NEEDED: dict[str, dict[str, type[pl.DataType]]] = {
    "interactions.parquet": {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64},
    "items.parquet": {"item_id": pl.String},
    "users.parquet": {"user_id": pl.String, "num_interactions": pl.Int64},
}


@dataclass(frozen=True)
class Finding:
    """One result of a check."""

    state: State
    text: str


def check_path(path: Path, options: Mapping[str, Any] | None = None) -> list[Finding]:
    """Check a prepared dataset, or raw files in any format that a reader recognises, read with `options`.

    Raises DataError where there is nothing to check, or no reader recognises it.
    """
    refuse_pipe(path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Give a raw file, a folder of raw files or a prepared dataset."
        )
    options = options or {}
    if path.is_dir() and (path / CARD).exists():
        refuse_options(path, options)
        return check_prepared(path)
    return check_raw(path, options)


def check_raw(path: Path, options: Mapping[str, Any]) -> list[Finding]:
    """Read raw files as `data prepare auto` would, and report columns, times and rejected rows."""
    reader = recognise(path, options)
    raw = read_raw(reader, path, options)
    clean_ids(raw)
    findings = [Finding("good", f"recognised as {reader.name}: {', '.join(f.name for f in raw.files)}")]
    findings += [Finding("note", note) for note in raw.notes]
    rows = raw.interactions
    findings.append(
        Finding(
            "good" if rows.height else "bad",
            f"{rows.height:,} valid rows, {rows['user_id'].n_unique():,} users, "
            f"{rows['item_id'].n_unique():,} items",
        )
    )
    findings += _rejected_findings(raw)
    findings += _raw_rows(raw)
    return findings


def _rejected_findings(raw: RawTables) -> list[Finding]:
    found = []
    for table, state in ((raw.rejected, "bad"), (raw.rejected_items, "note")):
        grouped = table.group_by("file", "reason", maintain_order=True).agg(
            pl.len().alias("rows"), pl.col("line").head(3), pl.col("text").first()
        )
        for file, reason, rows, lines, text in grouped.iter_rows():
            where = ", ".join(f"{line:,}" for line in lines)
            more = ", ..." if rows > len(lines) else ""
            message = f"{file}, line {where}{more}: {reason} ({rows:,} rows), such as {text[:80]!r}"
            found.append(Finding("bad" if state == "bad" else "note", message))
    reasons = raw.rejected["reason"].unique(maintain_order=True)
    return found + [Finding("note", ACCEPTED[reason]) for reason in reasons if reason in ACCEPTED]


def _raw_rows(raw: RawTables) -> list[Finding]:
    rows, found = raw.interactions, []
    if raw.timed and rows.height:
        found += [Finding("note", note) for note in time_notes(rows["timestamp"])]
        found.append(Finding("note", f"equal times: {ties_in_words(ties_of(rows))}"))
        twice = rows.select(pl.struct("user_id", "item_id", "timestamp").is_duplicated().sum()).item()
        if twice:
            found.append(
                Finding(
                    "note", f"{twice:,} rows share user, item and time; `prepare` keeps the first of each"
                )
            )
    if "value" in rows.columns and rows.height:
        found += [Finding("note", note) for note in no_rating_note(rows["value"])]
        found.append(
            Finding(
                "note",
                "values run from {:g} to {:g}".format(
                    *rows.select(low=pl.min("value"), high=pl.max("value")).row(0)
                ),
            )
        )
    if raw.items is not None:
        lost = (
            rows.select(pl.col("item_id").unique().cast(pl.String))
            .join(raw.items, on="item_id", how="anti")
            .height
        )
        if warning := unknown_items(raw):
            found.append(Finding("note", warning))
        elif lost:
            found.append(Finding("note", f"{lost:,} items of the interactions have no row of attributes"))
    return found


def check_prepared(folder: Path) -> list[Finding]:
    """Verify hashes, columns, counts, ids, order and repeats of a prepared dataset."""
    card = read_card(folder)
    found = _check_files(folder, card)
    if any(finding.state == "bad" for finding in found):
        return found
    rows, items, users = [pl.read_parquet(folder / name, glob=False) for name in NEEDED]
    found += _check_counts(card, rows, items, users)
    found += _check_ids(rows, items, users)
    found += _check_order(rows, users)
    found += _check_quality(card, rows, items, users)
    found += _check_own_split(folder)
    return found + _check_ties(card, rows)


def _check_own_split(folder: Path) -> list[Finding]:
    """The split of the source that came with the dataset, where it has one."""
    from ..split import own_split

    path = own_split(folder, SplitSpec())
    if path is None:
        return []
    parts = pl.read_parquet(path / "split.parquet", columns=["part"], glob=False)["part"]
    return [Finding("note", f"{kept_note(parts)}; `fit` uses it")]


def _check_files(folder: Path, card: DatasetCard) -> list[Finding]:
    found = []
    for name in [*NEEDED, *(extra for extra in card.sha256 if extra not in NEEDED)]:
        if not (folder / name).is_file():
            found.append(Finding("bad", f"{name} is missing; prepare the dataset again"))
        elif name not in card.sha256 or sha256(folder / name) != card.sha256[name]:
            found.append(
                Finding("bad", f"{name} is not what was prepared (its sha256 differs); prepare again")
            )
        else:
            found += _check_columns(folder / name)
    if not found:
        found.append(
            Finding("good", f"{len(card.sha256)} files match their sha256, data hash {card.data_hash()}")
        )
    return found


def _check_columns(path: Path) -> list[Finding]:
    schema = pl.read_parquet_schema(path)
    return [
        Finding("bad", f"{path.name}: column {name!r} should be {kind}, found {schema.get(name, 'none')}")
        for name, kind in NEEDED.get(path.name, {}).items()
        if schema.get(name) != kind
    ]


def _check_counts(
    card: DatasetCard, rows: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame
) -> list[Finding]:
    heights = {"interactions": rows.height, "items": items.height, "users": users.height}
    wrong = [
        Finding("bad", f"{CARD} counts {card.counts.get(name)} {name}, the file holds {height}")
        for name, height in heights.items()
        if card.counts.get(name) != height
    ]
    listed = ", ".join(f"{height:,} {name}" for name, height in heights.items())
    return wrong or [Finding("good", f"{listed}, {card.counts.get('rejected', 0):,} rows rejected when read")]


def _check_ids(rows: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame) -> list[Finding]:
    found = []
    for key, table in (("item_id", items), ("user_id", users)):
        if table[key].n_unique() != table.height:
            found.append(Finding("bad", f"{key} is not unique in its table"))
        orphans = rows.select(key).unique().join(table, on=key, how="anti")
        if orphans.height:
            found.append(
                Finding(
                    "bad",
                    f"{orphans.height:,} values of {key} have no row, such as {orphans[key][0]!r}",
                )
            )
    return found or [Finding("good", "every interaction belongs to a known user and item")]


def _check_order(rows: pl.DataFrame, users: pl.DataFrame) -> list[Finding]:
    expected = (
        users.select(pl.col("user_id").repeat_by("num_interactions").explode()).to_series().drop_nulls()
    )
    if not rows["user_id"].equals(expected):
        return [Finding("bad", "interactions are not grouped as users.parquet and its num_interactions say")]
    same = pl.col("user_id") == pl.col("user_id").shift()
    back = rows.select((same & (pl.col("timestamp") < pl.col("timestamp").shift())).sum()).item()
    if back:
        return [Finding("bad", f"{back:,} rows are older than the row before them of the same user")]
    return [Finding("good", "rows are grouped by user, in time order")]


def _check_ties(card: DatasetCard, rows: pl.DataFrame) -> list[Finding]:
    """What dataset.json says of equal times; of a dataset of before, what can be counted now."""
    if card.time == "order":
        return []
    if card.ties.rows is not None:
        return [Finding("note", f"equal times: {ties_in_words(card.ties)}")]
    ties = ties_of(rows, "file")
    more = (
        ties.rows
        and f", where they ascend by item id in {ties.ascending_text:.0%}; prepare again to have the rule"
    )
    return [Finding("note", f"equal times (ties: file, prepared before): {ties_in_words(ties)}{more or ''}")]


def _check_quality(
    card: DatasetCard, rows: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame
) -> list[Finding]:
    repeats = rows.select(pl.struct("user_id", "item_id", "timestamp").is_duplicated().sum()).item()
    found = [Finding("bad", f"{repeats:,} rows repeat user, item and time")] if repeats else []
    if "title" in items.columns:
        blank = items.select((pl.col("title").fill_null("").str.strip_chars() == "").sum()).item()
        found.append(
            Finding("note" if blank else "good", f"{blank:,} of {items.height:,} items have no title")
        )
    else:
        found.append(Finding("note", "items have no column `title`: models that read text need one"))
    single = int((users["num_interactions"] <= 1).sum())
    if single:
        found.append(
            Finding("note", f"{single:,} users have one interaction or none: `last` keeps them in train")
        )
    if card.time == "order":
        found.append(Finding("note", "the source has no times: the split `time` is not possible"))
    again = rows.height - rows.select(pl.struct("user_id", "item_id").n_unique()).item()
    if again:
        found.append(Finding("note", f"{again:,} rows are a user's return to an item"))
    return found
