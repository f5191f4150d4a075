"""Texts of like length together: little padding, and batches that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

AT_ONCE = 8192
"""Texts that are tokenised, and sorted by length, together: what bounds memory."""


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches, longest first, whose padded size (count x longest) is at most `budget`.

    A text longer than the budget is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda at: -lengths[at])
    start = 0
    while start < len(order):
        count = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count
