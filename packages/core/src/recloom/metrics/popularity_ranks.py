"""Ranks by popularity from sorted counts, without a pass over the catalogue: what `ranks` of the counts would give."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .functional import assembled, count_less, sorted_rows


class PopularityRanks:
    """Ranks the relevant items of requests among the whole catalogue by counts that are the same for all requests.

    Args:
        counts: (num_items + 1,) float, none below 0; row 0 is padding.
    """

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts
        self._rising = counts[1:].sort().values

    def __call__(self, targets: Tensor, masked: Tensor) -> Tensor:
        """(B, T) int64 ranks, pessimistic as those of `functional.ranks`.

        targets: (B, T) int64 relevant items, distinct within a row, 0 = none.
        masked: (B, M) int64 items that are not ranked, repeated or not, 0 = none.
        """
        ordered = sorted_rows(masked)  # (B, M), in which a repeated item follows itself
        again = pad(ordered[:, 1:] == ordered[:, :-1], (1, 0)) if ordered.shape[1] else ordered > 0
        theirs = self.counts[ordered].masked_fill(again | (ordered == 0), -1)  # less than any count
        places = torch.searchsorted(ordered, targets).clamp_max(max(0, ordered.shape[1] - 1))
        hidden = ordered.gather(1, places) == targets if ordered.shape[1] else targets < 0
        own, there = self.counts[targets], targets > 0
        ahead = len(self._rising) - torch.searchsorted(self._rising, own)
        ahead = ahead - (theirs.shape[1] - count_less(theirs, own))
        return assembled(ahead, own.masked_fill(hidden | ~there, -torch.inf), there)
