"""Popularity: training counts of items, optionally with old interactions counting less."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..batch import Batch
from ..data.catalog import Catalog
from ..data.interactions import Interactions
from ..errors import RecloomError
from ..recommender import Recommender

DAY = 86_400
"""Seconds."""


class Popularity(Recommender):
    """The number of training interactions of an item, the same for every request.

    Args:
        catalog: the items.
        half_life_days: an interaction counts 2^(-age / half life), where age is measured back from the
            last training interaction; None: every interaction counts 1. Needs times in seconds.
    """

    demo: ClassVar[dict[str, Any] | None] = {}

    popularity: Tensor  # (V + 1,)

    def __init__(self, catalog: Catalog, half_life_days: float | None = None) -> None:
        super().__init__(catalog)
        if half_life_days is not None and not half_life_days > 0:
            raise RecloomError(
                f"Popularity needs half_life_days > 0, found {half_life_days}; leave it out to count "
                "every interaction alike"
            )
        self.half_life_days = half_life_days
        self.register_buffer("popularity", torch.zeros(self.num_items + 1))

    @property
    def tells_cold_items(self) -> bool:
        return False

    def fit(self, interactions: Interactions) -> None:
        if self.half_life_days is None or not len(interactions):
            self.popularity = interactions.item_counts().float()
            return
        rows = interactions.rows()
        times = interactions.times[rows]
        age = (times.max() - times).double() / DAY
        self.popularity = torch.bincount(
            interactions.items[rows], torch.exp2(-age / self.half_life_days), self.num_items + 1
        ).float()

    def cold_start_scores(self, interactions: Interactions) -> Tensor:
        return self.popularity

    def score(self, batch: Batch) -> Tensor:
        return self.popularity[batch.candidates].expand(batch.history.shape[0], -1)
