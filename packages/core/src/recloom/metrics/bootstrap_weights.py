"""Metrics over pooled pairs under bootstrap weights: a pair counts as often as its user was drawn.

Each function takes scores, labels and users (N,) of the pairs, users being 0 to U - 1, and returns one from (D, U)
float64 weights, how often each user is in each of D draws, to (D,) values, NaN where undefined. What does not depend
on the draws, such as sorting, is done once. With all weights 1 they are the metrics of `recloom.metrics.functional`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .functional import SURE, grouped_auc, losing

OfDraws = Callable[[Tensor], Tensor]


def auc(scores: Tensor, labels: Tensor, users: Tensor) -> OfDraws:
    """The chance that a relevant pair scores above one that is not, ties one half.

    A draw costs a running sum over the pairs that are not relevant, and two look-ups for each that is.
    """
    relevant = labels > 0
    scores = losing(scores, relevant)
    rising, order = scores[~relevant].sort()
    own, by_own = scores[relevant].sort()  # sorted, so that look-ups go through memory in order
    loser, winner = users[~relevant][order], users[relevant][by_own]
    start, end = torch.searchsorted(rising, own), torch.searchsorted(rising, own, right=True)

    def drawn(weights: Tensor) -> Tensor:
        return torch.stack([of_draw(weight) for weight in weights])

    def of_draw(weight: Tensor) -> Tensor:
        passed = torch.cat([weight.new_zeros(1), weight[loser].cumsum(0)])  # (N- + 1,)
        mine = weight[winner]
        return mine @ (passed[start] + passed[end]) / (2 * mine.sum() * passed[-1])

    return drawn


def gauc(scores: Tensor, labels: Tensor, users: Tensor) -> OfDraws:
    """AUC within each user, averaged with the user's number of pairs as weight; one-class users are skipped."""
    size = torch.bincount(users).double()
    each = grouped_auc(scores, labels, users, len(size))
    known = ~each.isnan()
    return _ratio(torch.where(known, each * size, 0.0), size * known)


def log_loss(scores: Tensor, labels: Tensor, users: Tensor) -> OfDraws:
    """Mean binary cross entropy, in nats, of labels under sigmoid(scores) clamped to [SURE, 1 - SURE]."""
    most = math.log((1 - SURE) / SURE)
    logit = scores.double().clamp(-most, most)
    costs = torch.nn.functional.binary_cross_entropy_with_logits(logit, labels.double(), reduction="none")
    count = torch.bincount(users).double()
    return _ratio(torch.zeros_like(count).index_add(0, users, costs), count)


def _ratio(sums: Tensor, counts: Tensor) -> OfDraws:
    """From what each user adds to a sum (U,) and to a number (U,) to the sum by the number."""

    def drawn(weights: Tensor) -> Tensor:
        weights = weights[:, : len(sums)]  # users after the last one with a pair add nothing
        return (weights @ sums) / (weights @ counts)

    return drawn
