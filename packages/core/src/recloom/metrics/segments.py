"""Segments of items (warm, cold, tail) and of requests (known, new): a model that is good on average may fail new ones.

    warm    at least one training interaction
    cold    none: the item occurs after the training part only
    tail    warm, but not among the fifth of the warm items with the most training interactions

The fifth is rounded up; among equal counts at its border a hash of the raw ids decides, so that the order of the
catalogue does not. Warm and cold together are the whole catalogue. Requests are apart by whether there is
anything to look back on:

    known   the history holds an item
    new     it holds none, so that nothing but the request itself, and what all users have in common, tells items apart
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

HEAD = 5
"""One of so many warm items is popular; the others are the tail."""

LEGEND = "warm: met in training; cold: not met; tail: warm, save the most popular fifth"
"""What stands under a table with segments of items."""
OF_REQUESTS = ("known", "new")
USERS_LEGEND = "known: users with a history; new: requests without one"
"""What stands under a table with segments of requests."""
FLOOR = "Popularity: training counts on the same requests, the floor"
"""What stands under a table with the floor."""


def item_segments(counts: Tensor, ranks: Tensor | None = None) -> dict[str, Tensor]:
    """From (num_items + 1,) training interactions to (num_items + 1,) bool by segment; row 0 is in none.

    ranks: (num_items + 1,) what orders items of equal counts, lower first; without them the index does.
    """
    import torch  # results name the legend without it

    counts = counts.clone()
    counts[0] = 0
    warm, cold = counts > 0, counts == 0
    cold[0] = False
    order = torch.arange(len(counts)) if ranks is None else ranks.argsort(stable=True)
    order = order[counts[order].argsort(descending=True, stable=True)]
    head = order[: -(-int(warm.sum()) // HEAD)]
    tail = warm.clone()
    tail[head] = False
    return {"warm": warm, "cold": cold, "tail": tail}
