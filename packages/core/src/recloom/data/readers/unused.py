"""Columns of a table that are not read: they are named, and those that look like times or titles with their option."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import polars as pl

from .evidence import is_time
from .parts import PART_COLUMNS, PART_WORDS, SPLIT_ANEW
from .values import plain_name

TITLES = (
    "title", "name", "headline", "item_title", "item_name", "itemname", "product_title", "product_name",
    "productname", "movie_title", "movie_name", "book_title", "track_name", "song_title", "article_title", "label",
)  # fmt: skip
"""Names, in lower case, that a column of titles usually has; the first found is taken."""
LISTED = 12
"""Columns that are named at most."""


def left_out(
    names: Sequence[str], used: Sequence[str], sample: Mapping[str, Sequence[str]], roles: Sequence[str]
) -> list[str]:
    """Notes of the columns that are not used: which they are, and which of them may be times or titles.

    Args:
        names: all columns of the table.
        used: those that are read.
        sample: some values of columns, as texts; columns may be absent.
        roles: what was found among the columns: `timestamp`, `title`, ...
    """
    left = [name for name in dict.fromkeys(names) if name.strip() and name not in used]
    notes = []
    if (part := next((name for name in left if _says_parts(name, sample.get(name, ()))), None)) is not None:
        notes.append(f"{part} says which rows are train, valid and test; {SPLIT_ANEW}")
        left.remove(part)
    times = [name for name in left if _mostly_times(sample.get(name, ()))]
    if times and "timestamp" not in roles:
        example = next(text for text in sample[times[0]] if text)
        notes.append(
            f"warning: {times[0]} looks like times, such as {example[:40]!r}, and is not read. Where it is when a row "
            f"happened, name it: --time-column {shlex.quote(times[0])}"
        )
    titles = sorted((TITLES.index(plain_name(name)), name) for name in left if plain_name(name) in TITLES)
    if titles and "title" not in roles:
        notes.append(
            f"{titles[0][1]} may hold titles of items, and is not read. Where it does: --title-column "
            f"{shlex.quote(titles[0][1])}"
        )
    if left:
        more = f" and {len(left) - LISTED:,} more" if len(left) > LISTED else ""
        listed = ", ".join(name[:40] for name in left[:LISTED])
        notes.append(f"not read: {listed}{more} (--keep-columns keeps one beside each interaction)")
    return notes


def titles_of(rows: pl.DataFrame, column: str, notes: list[str]) -> pl.DataFrame:
    """Item to its title, from a column beside the interactions: the first that each item has; noted where they differ.

    Args:
        rows: interactions with `item_id` and the column.
    """
    pairs = rows.select("item_id", pl.col(column).alias("title")).drop_nulls().unique(maintain_order=True)
    items = pairs.unique("item_id", keep="first", maintain_order=True)
    several = pairs.height - items.height
    notes.append(
        f"titles: {column}, for {items.height:,} items"
        + (f"; {several:,} further titles of the same items are left out" if several else "")
    )
    return items


def _says_parts(name: str, texts: Sequence[str]) -> bool:
    """Whether a column is called as those that say the part of a split are, and holds words for parts alone."""
    words = {text.strip().lower() for text in texts if text is not None}
    return name.strip().lower() in PART_COLUMNS and bool(words) and words <= PART_WORDS.keys()


def _mostly_times(texts: Sequence[str]) -> bool:
    given = [text for text in texts if text.strip()]
    return len(given) > 0 and sum(map(is_time, given)) >= 0.9 * len(given)
