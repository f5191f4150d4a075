"""TitleRate: the share of positive training interactions of an item, the same for every user."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..data.catalog import Catalog
from ..data.interactions import Interactions
from ..errors import at_least
from ..recommender import Recommender
from .like_share import SURE


class TitleRate(Recommender):
    """Logit of (liked + prior * m) / (interactions + prior) of an item, m over all training interactions.

    Positive are those from `--data.positive` on. What a language model knows of a title is to be better than this.

    Args:
        catalog: the items.
        prior: interactions of average taste that each item is credited with, so that few say little.
    """

    rates: Tensor  # (V + 1,) logits

    def __init__(self, catalog: Catalog, prior: float = 10.0) -> None:
        super().__init__(catalog)
        at_least(0, prior=prior)
        self.prior = prior
        self.register_buffer("rates", torch.zeros(self.num_items + 1))

    @property
    def tells_cold_items(self) -> bool:
        return False

    def fit(self, interactions: Interactions) -> None:
        rows = interactions.rows()
        labels = interactions.labels()[rows].double()
        liked = torch.bincount(interactions.items[rows].long(), labels, self.num_items + 1)
        weight, average = interactions.item_counts() + self.prior, labels.mean()
        rate = torch.where(weight > 0, (liked + self.prior * average) / weight.clamp(min=SURE), average)
        self.rates = rate.clamp(SURE, 1 - SURE).logit().float()

    def cold_start_scores(self, interactions: Interactions) -> Tensor:
        return self.rates

    def score(self, batch: Batch) -> Tensor:
        return self.rates[batch.candidates].expand(batch.history.shape[0], -1)
