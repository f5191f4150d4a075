"""From which of a user's interactions an LLM may know, where later ones are what a model learns from.

KAR (Xi et al., RecSys 2024) builds knowledge from the first k interactions of a user and trains on the rest, so
that no target was ever part of a text.
"""

from __future__ import annotations

from torch import Tensor


def known_first(lengths: Tensor, limit: int) -> Tensor:
    """(U,) how many first interactions LLM knowledge may be built from: min((n + 1) // 2, limit).

    Args:
        lengths: (U,) integers, n of each user.
        limit: 30 in KAR's code for ML-1M, 15 for Amazon-Books.
    """
    return ((lengths + 1) // 2).clamp(max=limit)
