"""Find items by what people type: a raw id, a title, or the beginning of one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from ..data.catalog import Catalog
from ..errors import RecloomError

LONGEST = 60
"""Letters of a text that near titles are looked for by."""
COMPARED = 100
"""Titles that are compared letter by letter."""


def find_items(catalog: Catalog, queries: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(n,) int64 item indices; 0 for an id that is not known.

    A query is a raw id, or else a title, upper or lower case, whole or its beginning or a part. A text that
    fits several titles and none exactly is a RecloomError that lists them.
    """
    index = catalog.item_index(list(queries)).copy()
    if "title" in catalog.items.columns:
        for place in np.flatnonzero(index == 0):
            index[place] = _by_title(catalog, str(queries[int(place)]))
    return index


def near(catalog: Catalog, query: str, most: int = 3) -> list[str]:
    """Titles, or else ids, that a text that names no item may have meant, the nearest first.

    A number such as 3.0 meant the id 3, where that is known: `data prepare` reads such ids without `.0`.
    The names that share the most runs of three letters with the text are compared with it letter by letter.
    """
    whole = without_point(query)
    if whole != query and catalog.item_index([whole])[0]:
        return [whole]
    column = "title" if "title" in catalog.items.columns else "item_id"
    names = catalog.items[column].drop_nulls().unique(maintain_order=True)
    wanted = query.strip().lower()[:LONGEST]
    parts = sorted({wanted[at : at + 3] for at in range(max(1, len(wanted) - 2))})
    folded = names.str.to_lowercase()
    shared = sum(
        (folded.str.contains(part, literal=True).cast(pl.Int32) for part in parts),
        pl.zeros(len(names), pl.Int32, eager=True),
    )
    order = pl.DataFrame({"shared": shared, "length": names.str.len_chars(), "name": names}).filter(
        pl.col("shared") > 0
    )
    best = order.sort(["shared", "length"], descending=[True, False], maintain_order=True).head(COMPARED)[
        "name"
    ]
    by_folded = {name.lower(): name for name in reversed(best.to_list())}
    return [by_folded[one] for one in difflib.get_close_matches(wanted, by_folded, n=most)]


def without_point(text: str) -> str:
    """A whole number such as `3.0` as `3`, as `data prepare` reads ids; any other text as it is."""
    return re.sub(r"^\s*(-?\d+)\.0*\s*$", r"\1", text)


def _by_title(catalog: Catalog, query: str) -> int:
    wanted = query.strip().lower()
    if len(wanted) < 3:
        return 0
    written = catalog.items["title"].fill_null("")
    titles = written.str.to_lowercase()
    exact = written == query
    whole = exact if exact.any() else titles == wanted
    tests = (whole, titles.str.starts_with(wanted), titles.str.contains(wanted, literal=True))
    for number, test in enumerate(tests):
        found = test.arg_true().to_list()
        if len(found) == 1 or (found and number == 0):
            return int(found[0]) + 1
        if found:
            shown = ", ".join(repr(title) for title in catalog.titles(np.array(found[:5]) + 1))
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise RecloomError(
                f"{query!r} fits {len(found)} titles: {shown}{more}. Type more of the title, or the id."
            )
    return 0
