"""Find items by what people type: a raw id, a title, or the beginning of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.catalog import Catalog
from ..errors import RecloomError


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


def _by_title(catalog: Catalog, query: str) -> int:
    wanted = query.strip().casefold()
    if len(wanted) < 3:
        return 0
    titles = catalog.items["title"].fill_null("").str.to_lowercase()
    tests = (titles == wanted, titles.str.starts_with(wanted), titles.str.contains(wanted, literal=True))
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
