"""LikeShare: the share of liked items in the history, the same for every candidate; no model of anything."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..data.catalog import Catalog
from ..data.interactions import Interactions
from ..errors import DataError, at_least
from ..recommender import Recommender

SURE = 1e-6
"""A share is at least this and at most 1 less this, so that its logit is finite."""


class LikeShare(Recommender):
    """How many items of the history the user liked: logit of (liked + prior * m) / (known + prior).

    known counts the items whose event is known, liked those with an event that is positive in most training
    interactions (`--data.positive`), and m is the share of positive training interactions; it stands for a history
    of which nothing is known. What a language model says of liked and disliked titles is to be better than this.

    Args:
        catalog: its events are what happened; DataError where it has none.
        prior: items of average taste that each history is credited with; 0 is the plain share.
    """

    inputs = ("history", "history_event")
    liked: Tensor  # (E + 1,) float, 1 where an event is a like
    average: Tensor  # ()

    def __init__(self, catalog: Catalog, prior: float = 0.0) -> None:
        super().__init__(catalog)
        at_least(0, prior=prior)
        if not catalog.num_events:
            raise DataError(
                "LikeShare counts what happened with the items of a history, and these data do not say it. Prepare "
                "them with a column of values (--value-column) or events (--event-column)."
            )
        self.prior = prior
        self.register_buffer("liked", torch.zeros(catalog.num_events + 1))
        self.register_buffer("average", torch.tensor(0.5))

    @property
    def tells_cold_items(self) -> bool:
        return False

    def fit(self, interactions: Interactions) -> None:
        rows = interactions.rows()
        labels = interactions.labels()[rows].double()
        assert interactions.events is not None
        events, size = interactions.events[rows].long(), len(self.liked)
        positive, count = torch.bincount(events, labels, size), torch.bincount(events, minlength=size)
        liked = 2 * positive > count
        liked[0] = False
        self.liked, self.average = liked.float(), labels.mean().float()

    def cold_start_scores(self, interactions: Interactions) -> Tensor:
        return self.average.clamp(SURE, 1 - SURE).logit().expand(self.num_items + 1)

    def score(self, batch: Batch) -> Tensor:
        known = ((batch.history > 0) & (batch.history_event > 0)).sum(1)  # (B,)
        liked = (self.liked[batch.history_event] * (batch.history > 0)).sum(1)
        weight = known + self.prior
        share = torch.where(
            weight > 0, (liked + self.prior * self.average) / weight.clamp(min=SURE), self.average
        )
        return share.clamp(SURE, 1 - SURE).logit()[:, None].expand(-1, batch.candidates.shape[1])
