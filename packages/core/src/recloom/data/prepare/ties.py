"""Ties in time: rows of one user at one time, and whether the file's order among them or a hash decides.

Many files are sorted by user and item, so that equal times stand in order of item id: a model of sequences then reads
the order of the file. The file's order is kept only where it tells nothing but time; else the order is that of a hash
of (seed, user, time, item), which is the same on every machine and for every order of the rows.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl

from ...errors import at_least
from ...schemas import TimeTies
from ..card import Ties
from ..id_order import STEP, Keys, id_hashes, mix, natural_order
from .encode import Codes, Rows, Times, factorise, in_order, rows_each

LEAST_PAIRS = 100
"""So many tied neighbours tell a share of one half from an order: its standard error is at most .05."""
BALANCED = (0.4, 0.6)
"""The share of tied neighbours that ascend by id in a file whose order is not that of ids."""
Places = np.ndarray[Any, np.dtype[np.int64]]
Marks = np.ndarray[Any, np.dtype[np.bool_]]


def break_ties(
    order: Rows,
    users: Codes,
    items: Codes,
    times: Times,
    user_ids: pl.Series,
    item_ids: pl.Series,
    rule: Ties = "auto",
    seed: int = 0,
) -> tuple[Rows, Codes, TimeTies]:
    """The rows and items in their final order, and what was found and done.

    `auto` keeps the file's order where the rows of every user stand in time order in the file, and where tied
    neighbours ascend by id, as number and as text, in 40 to 60 % of at least LEAST_PAIRS pairs.

    Args:
        order: (N,) row of the file that stands here, by user and time, equal ones in the file's order.
        users, items, times: (N,) in that order, no (user, item, time) twice.
        user_ids, item_ids: the ids by code.
    """
    at_least(0, seed=seed)
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    tied = np.flatnonzero(tied_rows(same))
    found: dict[str, Any] = _counted(users, tied, len(user_ids))
    pairs = np.flatnonzero(same & (items[1:] != items[:-1]))
    if len(pairs):
        found["ascending_number"], found["ascending_text"] = _ascending(items, pairs, tied, item_ids)
        follows = users[1:] == users[:-1]
        found["in_time_order"] = bool((order[1:] > order[:-1])[follows].all())
    chosen = rule if rule != "auto" else _file_or_hash(len(pairs), found)
    ties = TimeTies(rule=chosen, seed=seed, asked=rule != "auto" and len(tied) > 0, pairs=len(pairs), **found)
    if chosen == "file" or not len(tied):
        return order, items, ties
    keys = row_hashes(id_hashes(user_ids)[users[tied]], times[tied], id_hashes(item_ids)[items[tied]], seed)
    moved = tied[_by_group(~np.concatenate([[False], same])[tied], keys)]
    order, items = order.copy(), items.copy()
    order[tied], items[tied] = order[moved], items[moved]
    return order, items, ties


def user_order(
    frame: pl.DataFrame, rule: Ties = "auto", seed: int = 0
) -> tuple[Rows, Codes, Codes, Times, TimeTies]:
    """The order of a table by user (as they first appear) and time, ties as `break_ties` has them.

    Args:
        frame: `user_id`, `item_id`, `timestamp`; N rows.

    Returns:
        (N,) rows of the table, and users, items and times in that order; what was found of ties.
    """
    users, user_ids = factorise(frame["user_id"].cast(pl.String))
    items, item_ids = factorise(frame["item_id"].cast(pl.String))
    times = frame["timestamp"].cast(pl.Int64).to_numpy()
    order = in_order(users, times)
    users, items, times = users[order], items[order], times[order]
    order, items, ties = break_ties(order, users, items, times, user_ids, item_ids, rule, seed)
    return order, users, items, times, ties


def ties_of(frame: pl.DataFrame, rule: Ties = "auto") -> TimeTies:
    """What `prepare` would find of equal times in a table; of repeated rows one counts."""
    first = frame.select("user_id", "item_id", "timestamp").unique(keep="first", maintain_order=True)
    return user_order(first, rule)[-1]


def tied_rows(same: Marks) -> Marks:
    """(N,) whether a row shares user and time with a neighbour, from (N - 1,) whether it does with the next."""
    end = np.zeros(1, bool)
    return np.concatenate([same, end]) | np.concatenate([end, same]) if len(same) else end[:0]


def _counted(users: Codes, tied: Places, num_users: int) -> dict[str, Any]:
    counts = rows_each(users, num_users)
    stops = np.cumsum(counts)[counts >= 3]
    is_tied = np.zeros(len(users), bool)
    is_tied[tied] = True
    held = {"last": is_tied[stops - 1], "second_last": is_tied[stops - 2]}
    shares = {name: float(marks.mean()) if len(marks) else 0.0 for name, marks in held.items()}
    return {"rows": len(tied), "share": len(tied) / max(1, len(users)), **shares}


def _ascending(items: Codes, pairs: Places, tied: Places, item_ids: pl.Series) -> tuple[float, float]:
    """The shares of tied neighbours whose ids ascend, by their first number and as text."""
    present = np.flatnonzero(np.bincount(items[tied], minlength=len(item_ids)))
    ids = item_ids.gather(present)
    shares = []
    for order in (natural_order(ids), ids.arg_sort().to_numpy()):
        rank = np.zeros(len(item_ids), np.int64)
        rank[present[order]] = np.arange(len(present))
        shares.append(float((rank[items[pairs + 1]] > rank[items[pairs]]).mean()))
    return shares[0], shares[1]


def _file_or_hash(pairs: int, found: dict[str, Any]) -> Literal["file", "hash"]:
    low, high = BALANCED
    balanced = pairs >= LEAST_PAIRS and all(
        low <= found[share] <= high for share in ("ascending_number", "ascending_text")
    )
    return "file" if balanced and found["in_time_order"] else "hash"


def _by_group(starts: Marks, keys: Keys) -> Places:
    """(T,) places sorted by key within each group, which begins where `starts` says."""
    group = np.cumsum(starts) - 1
    bits = np.uint64(max(1, int(group[-1]).bit_length()))
    short = (group.astype(np.uint64) << (np.uint64(64) - bits)) | (keys >> bits)
    order = np.argsort(short)
    if (np.diff(short[order]) == 0).any():  # what was cut off a key tells them apart
        order = np.lexsort((keys, group))
    return order


def row_hashes(users: Keys, times: Times, items: Keys, seed: int) -> Keys:
    """(N,) hashes of (seed, user, time, item) from the hashes of the ids."""
    begin = mix(np.full(1, seed, np.uint64) + STEP)
    return mix(mix(mix(begin ^ users) + times.astype(np.uint64)) ^ items)


def ties_in_words(ties: TimeTies) -> str:
    """What `prepare` and `check` say of equal times."""
    if ties.rows is None:
        return "equal times stand in the order of the file; how many there are was not counted then"
    if not ties.rows:
        return "no two rows of a user have the same time"
    total = round(ties.rows / ties.share) if ties.share else 0
    facts = (
        f"{ties.rows:,} of {total:,} rows ({ties.share:.1%}) share user and time with another, and so do "
        f"{ties.last:.1%} of the users' last and {ties.second_last:.1%} of their second to last items; "
    )
    kept = "their order is that of the file" if ties.rule == "file" else "their order is that of a hash"
    return facts + kept + (", as asked" if ties.asked else f": {_reason(ties)}")


def _reason(ties: TimeTies) -> str:
    if ties.rule == "file":
        return f"users' rows stand in time order, and ties ascend by item id in {ties.ascending_number:.0%}"
    if ties.pairs < LEAST_PAIRS:
        return f"{ties.pairs} ties are too few to tell whether the file is sorted by item"
    if not ties.in_time_order:
        return "the file does not stand in time order"
    number, text = f"{ties.ascending_number:.0%}", f"{ties.ascending_text:.0%}"
    share = number if number == text else f"{number} (as text {text})"
    return f"in the file they ascend by item id in {share}"
