"""From raw tables to a prepared dataset: checked, ordered, counted, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from ...errors import DataError
from ...io import sha256, whole_folder
from ...schemas import ContextField, DatasetCard, EventCodes, Source, SourceFile, TimeTies
from ..card import CARD, Ties
from ..id_order import natural_order
from ..readers import RawTables, no_rejections
from ..readers.values import ACCEPTED
from .codes import choose_context, choose_events
from .encode import factorise, gathered, in_order, positions, repeats, rows_each
from .ids import clean_ids, unknown_items
from .rejected import rejected_rows
from .ties import break_ties
from .times import time_notes
from .unrated import drop_unrated, no_rating_note, rows_left_note

FEW = 0.05
"""The share of malformed rows up to which leaving them out is a way to go on."""


@dataclass
class Prepared:
    """The tables of a dataset in their final order, and what was counted on the way."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    impressions: pl.DataFrame | None
    rejected: pl.DataFrame
    counts: dict[str, int]
    time: Literal["seconds", "order"]
    events: EventCodes | None = None
    context: list[ContextField] = field(default_factory=list)
    ties: TimeTies = field(default_factory=TimeTies)

    def tables(self) -> dict[str, pl.DataFrame]:
        """File name to table."""
        found = {
            "interactions.parquet": self.interactions,
            "items.parquet": self.items,
            "users.parquet": self.users,
            "rejected.parquet": self.rejected,
        }
        return found if self.impressions is None else found | {"impressions.parquet": self.impressions}


def arrange(
    raw: RawTables,
    *,
    min_value: float | None = None,
    missing_value: Sequence[float] = (),
    keep_all_items: bool = False,
    max_rejected: float = 0.01,
    event_column: str | None = None,
    event_cuts: Sequence[float] | None = None,
    context_columns: Sequence[str] = (),
    ties: Ties = "auto",
    seed: int = 0,
) -> Prepared:
    """Filter, order and count what a reader found; its notes say what became an event.

    Args:
        min_value: keep rows whose value is at least this, such as 4 for ratings of 4 and 5.
        missing_value: values that mean that there is no rating; rows that have them are left out.
        keep_all_items: keep items that occur in no interaction or impression too.
        max_rejected: the share of malformed rows above which the data are refused.
        event_column, event_cuts: what tells events apart, as `choose_events` says.
        context_columns: columns of the interactions that are fields of a request, such as device or place.
        ties, seed: what orders rows of equal user and time, as `break_ties` says.

    Raises DataError when too many rows are malformed, or none is left.
    """
    timed = raw.timed
    counts = {"read": raw.interactions.height + raw.rejected.height}
    _check_share(raw, counts["read"], max_rejected)
    clean_ids(raw)
    raw.notes += filter(None, [unknown_items(raw)])
    if "value" in raw.interactions.columns and not missing_value:
        raw.notes += no_rating_note(raw.interactions["value"])
    kept, unrated = drop_unrated(raw.interactions, missing_value)
    raw.notes += rows_left_note(raw.interactions, kept, missing_value)
    raw.interactions = kept
    del kept
    rows, below = _filter_values(raw.interactions, min_value)
    raw.interactions = pl.DataFrame()  # free what was filtered away
    rows, duplicates, user_ids, item_ids, lengths, time_ties = _order(
        rows, raw.files, raw.encoding, ties, seed
    )
    if not rows.height:
        raise DataError(
            f"no interaction is left of {counts['read']:,} rows read ({raw.rejected.height:,} rejected, "
            f"{below:,} below --min-value). See the reasons with `recloom data check PATH`."
        )
    raw.notes += time_notes(rows["timestamp"]) if timed else []
    events, note = choose_events(rows, event_column, event_cuts)
    raw.notes += [note] if note else []
    context = choose_context(rows, context_columns)
    items = _item_table(raw, item_ids, keep_all_items)
    users = _user_table(raw, user_ids, lengths)
    rejected = pl.concat([raw.rejected, raw.rejected_items, duplicates])
    counts |= {
        "users": users.height,
        "items": items.height,
        "interactions": rows.height,
        "rejected": raw.rejected.height + duplicates.height,
        "duplicates": duplicates.height,
        "below_min_value": below,
        "missing_value": unrated,
        "rejected_side_rows": raw.rejected_items.height,
    }
    if raw.impressions is not None:
        counts["impressions"] = raw.impressions.height
    time: Literal["seconds", "order"] = "seconds" if timed else "order"
    return Prepared(rows, items, users, raw.impressions, rejected, counts, time, events, context, time_ties)


def _check_share(raw: RawTables, read: int, limit: float) -> None:
    share = raw.rejected.height / max(1, read)
    if share <= limit:
        return
    reasons = raw.rejected.group_by("reason").len().sort("len", "reason", descending=[True, False])
    listed = "; ".join(f"{n:,} x {reason}" for reason, n in reasons.head(5).iter_rows())
    first = raw.rejected.row(0, named=True)
    accepted = "".join(f" {ACCEPTED[reason]}" for reason in reasons["reason"] if reason in ACCEPTED)
    limit_needed = f"--max-rejected {np.ceil(share * 100) / 100:g}"
    nobody = reasons["reason"].str.starts_with("user_id is empty").all() and 2 * share < 1
    allow = f", or allow it with {limit_needed}" if share <= FEW else ""
    allow = (
        f", or leave out the rows that say no user, such as those of guests, with {limit_needed}"
        if nobody
        else allow
    )
    raise DataError(
        f"{raw.rejected.height:,} of {read:,} rows are malformed ({share:.1%}), more than --max-rejected "
        f"{limit:g}: {listed}. The first is {first['file']}, line {first['line']}: {first['text']!r}.{accepted} "
        f"Mend the file{allow}."
    )


def _filter_values(rows: pl.DataFrame, low: float | None) -> tuple[pl.DataFrame, int]:
    if low is None:
        return rows, 0
    if "value" not in rows.columns:
        raise DataError("--min-value needs a value column, and these data have none. Leave the option out.")
    kept = rows.filter(pl.col("value") >= low)
    return kept, rows.height - kept.height


def _order(
    rows: pl.DataFrame, files: list[Path], encoding: str, rule: Ties, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.Series, pl.Series, np.ndarray[Any, np.dtype[np.int64]], TimeTies]:
    """Rows grouped by user in time order without repeats; the repeats; ids; number of rows per user; equal times."""
    with ThreadPoolExecutor(2) as pool:  # both spend their time outside the interpreter's lock
        (users, user_ids), (items, item_ids) = pool.map(factorise, (rows["user_id"], rows["item_id"]))
    times = rows["timestamp"].to_numpy() if "timestamp" in rows.columns else None
    order = in_order(users, times)
    users = np.repeat(np.arange(len(user_ids), dtype=users.dtype), np.bincount(users))
    timed = times is not None
    numbers = {"item": pl.Series(items)} | ({"time": rows["timestamp"]} if timed else {})
    found = gathered({name: (column, order) for name, column in numbers.items()})
    items = found["item"].to_numpy()
    times = found["time"].to_numpy() if timed else positions(users)
    rows = rows.drop("user_id", "item_id", "timestamp", strict=False)
    again = repeats(users, items, times)
    duplicates = pl.concat([no_rejections(), *_duplicate_rows(rows, order[again], files, encoding)])
    if len(again):
        keep = np.ones(len(order), bool)
        keep[again] = False
        order, users, items, times = order[keep], users[keep], items[keep], times[keep]
    order, items, ties = break_ties(
        order, users, items, times, user_ids, item_ids, rule if timed else "file", seed
    )
    ids = {"user_id": (user_ids, users), "item_id": (item_ids, items)}
    others = {name: (rows[name], order) for name in rows.columns if name not in ("line", "file")}
    table = gathered(ids | others).insert_column(2, pl.Series("timestamp", times))
    return table, duplicates, user_ids, item_ids, rows_each(users, len(user_ids)), ties


def _duplicate_rows(
    rows: pl.DataFrame, places: np.ndarray[Any, np.dtype[np.uint32]], files: list[Path], encoding: str
) -> list[pl.DataFrame]:
    if not len(places):
        return []
    again = rows[np.sort(places)]
    reason = "duplicate of an earlier row (same user, item and time)"
    return [rejected_rows(again, files, pl.repeat(reason, again.height, eager=True), encoding)]


def _item_table(raw: RawTables, ids: pl.Series, keep_all: bool) -> pl.DataFrame:
    """Items in the order of the source's table, then those it lacks in the order of their ids: whatever the order of
    the rows is.
    """
    shown = [ids]
    if raw.impressions is not None:
        shown += [raw.impressions[name].explode().drop_nulls() for name in ("history", "candidates")]
    found = pl.concat([s.alias("item_id") for s in shown]).unique()
    occurring = found.gather(natural_order(found)).to_frame()
    if raw.items is None:
        return occurring
    listed = (
        raw.items if keep_all else raw.items.join(occurring, on="item_id", how="semi", maintain_order="left")
    )
    unlisted = occurring.join(raw.items, on="item_id", how="anti", maintain_order="left")
    first = ["item_id", *(["title"] if "title" in listed.columns else [])]
    return pl.concat([listed, unlisted], how="diagonal").select(*first, pl.exclude(first))


def _user_table(raw: RawTables, ids: pl.Series, lengths: np.ndarray[Any, np.dtype[np.int64]]) -> pl.DataFrame:
    users = pl.DataFrame({"user_id": ids, "num_interactions": lengths})
    if raw.impressions is not None:
        others = (
            raw.impressions.select("user_id")
            .unique(maintain_order=True)
            .join(users, on="user_id", how="anti")
        )
        users = pl.concat([users, others.with_columns(pl.lit(0, pl.Int64).alias("num_interactions"))])
    if raw.users is None:
        return users
    return users.join(raw.users, on="user_id", how="left", maintain_order="left")


def write_dataset(
    data: Prepared,
    out: Path,
    *,
    name: str,
    source: Source,
    licence: str,
    overwrite: bool = False,
    extra: dict[str, pl.DataFrame] | None = None,
    parameters: dict[str, Any] | None = None,
    parts: pl.Series | None = None,
) -> DatasetCard:
    """Write a dataset directory: the Parquet files, then `dataset.json`, then the rename into place.

    Args:
        parts: of each interaction, as the source divides them; kept as the dataset's own split.
        extra: further tables by file name below `truth/`; with `parameters` beside them as JSON.
    """
    with whole_folder(out, overwrite=overwrite) as folder:
        tables = data.tables()
        for file, table in tables.items():
            table.write_parquet(folder / file, compression_level=1)
        with ThreadPoolExecutor() as pool:
            digests = dict(zip(tables, pool.map(lambda file: sha256(folder / file), tables), strict=True))
        if extra:
            (folder / "truth").mkdir()
            for file, table in extra.items():
                table.write_parquet(folder / "truth" / file)
            (folder / "truth" / "parameters.json").write_text(json.dumps(parameters or {}, indent=2) + "\n")
        card = DatasetCard(
            name=name,
            source=source,
            licence=licence,
            time=data.time,
            columns={f: {c: str(kind) for c, kind in table.schema.items()} for f, table in tables.items()},
            counts=data.counts,
            sha256=digests,
            events=data.events,
            context=data.context,
            ties=data.ties,
        )
        (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if parts is not None:
            from ..split import write_own_split

            write_own_split(folder, card, data.interactions, parts)
    return card


def write_synthetic(
    data: Prepared,
    out: Path,
    truth: dict[str, pl.DataFrame],
    parameters: dict[str, Any],
    *,
    overwrite: bool = False,
) -> DatasetCard:
    """Write invented data with their truth beside them."""
    return write_dataset(
        data, out, name=f"synth-{parameters['like']}", source=Source(reader="synth", options=parameters),
        licence="invented data, free to use", overwrite=overwrite, extra=truth, parameters=parameters,
    )  # fmt: skip


def source_files(paths: list[Path]) -> list[SourceFile]:
    """Name, size and digest of raw files; folder names are left out."""
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(sha256, paths))
    return [
        SourceFile(name=path.name, bytes=path.stat().st_size, sha256=digest)
        for path, digest in zip(paths, digests, strict=True)
    ]
