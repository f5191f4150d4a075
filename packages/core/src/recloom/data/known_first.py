"""KAR's rule: of what a user did first, texts may be written; only what came later is learnt from."""

from __future__ import annotations

from torch import Tensor


def known_first(lengths: Tensor, limit: int) -> Tensor:
    """How many first interactions of each user knowledge may be built from: (U,) min((n + 1) // 2, limit).

    Xi et al. 2024, with limit 30 for ml-1m and 15 for Amazon-Books.

    Args:
        lengths: (U,) interactions of each user.
        limit: the most that are taken.
    """
    return ((lengths + 1) // 2).clamp(max=limit)
