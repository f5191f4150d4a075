"""Comparison of two rankings of the same requests: which places differ, and by how much."""

from __future__ import annotations

from typing import NamedTuple

import torch
from recloom.metrics import MISSED, first_k, hit, ndcg
from torch import Tensor


class Comparison(NamedTuple):
    """Per place of a list, (B, k)."""

    expected: Tensor
    """Item index the reference has there, 0 where nothing is left; of equal scores the lowest index."""
    wrong: Tensor
    """Whether the item, or its score, is not the reference's, beyond the tolerance."""
    tied: Tensor
    """Whether the item is another whose score equals the expected one's within the tolerance."""
    difference: Tensor
    """Between the score given and the reference's score of the same item; inf if only one is finite."""


def compare(items: Tensor, scores: Tensor, reference: Tensor, tolerance: float) -> Comparison:
    """Compare lists with the scores they should be made from.

    Two scores are equal if they differ by at most `tolerance` times (1 + their size), where 1 becomes the
    largest score of the row if that is smaller: small scores are not all equal.

    Args:
        items: (B, k) item indices, 0 = nothing left.
        scores: (B, k).
        reference: (B, N) scores of items 1 to N, -inf where an item must not be recommended.
        tolerance: such as 1e-4.
    """
    k = items.shape[1]
    spare = reference.new_full((len(items), max(1, k + 1 - reference.shape[1])), -torch.inf)
    best, column = first_k(torch.cat([reference, spare], 1), k)
    expected = (column + 1) * (best > -torch.inf)
    own = torch.cat([spare[:, :1], reference], 1).gather(1, items)
    finite = reference.where(reference.isfinite(), 0.0)
    scale = finite.abs().amax(1, keepdim=True).clamp(max=1)
    allowed = tolerance * (scale + best.where(best.isfinite(), 0.0).abs())
    difference = _apart(scores, own)
    wrong = (_apart(own, best) > allowed) | (difference > allowed) | _repeated(items)
    return Comparison(expected, wrong, (items != expected) & ~wrong, difference)


def faults(items: Tensor, scores: Tensor, reference: Tensor) -> Tensor:
    """Places (B, k) that break what holds for any scores: whatever precision they were computed with.

    A place must hold an item that may be recommended, once, as long as there are some left, and none with the
    score -inf from there on; scores are finite and do not rise.

    Args:
        items: (B, k) item indices, 0 = nothing left.
        scores: (B, k).
        reference: (B, N) scores of items 1 to N, -inf where an item must not be recommended.
    """
    free = reference > -torch.inf
    left = torch.arange(items.shape[1]) < free.sum(1, keepdim=True)  # (B, k)
    hidden = (items > 0) & ~torch.nn.functional.pad(free, (1, 0)).gather(1, items)
    odd = torch.where(left, ~scores.isfinite(), scores != -torch.inf)
    rising = torch.zeros_like(odd)
    rising[:, 1:] = scores[:, 1:] > scores[:, :-1]
    return hidden | odd | rising | (left != (items > 0)) | _repeated(items)


def overlap(items: Tensor, expected: Tensor, k: int = 10) -> Tensor:
    """(B,) share of the first k items of `expected` that are among the first k of `items`; NaN where there are none."""
    wanted = expected[:, :k]
    found = (wanted[:, :, None] == items[:, None, :k]).any(2) & (wanted > 0)
    return found.sum(1) / (wanted > 0).sum(1)


def list_metrics(items: Tensor, targets: Tensor, k: int = 10) -> dict[str, Tensor]:
    """(B,) ndcg and hit of lists (B, at least k) against held-out items (B, T), 0 = none."""
    same = items[:, :k, None] == targets[:, None, :]  # (B, k, T)
    place = torch.where(same.any(1), same.int().argmax(1) + 1, MISSED)
    ranks = place * (targets > 0)
    return {f"ndcg@{k}": ndcg(ranks, k), f"hit@{k}": hit(ranks, k)}


def _apart(left: Tensor, right: Tensor) -> Tensor:
    """Distance of scores: 0 where both are -inf, inf where one is not a number."""
    distance = torch.where(left == right, 0.0, (left - right).abs())
    return distance.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _repeated(items: Tensor) -> Tensor:
    """Whether an item occurs in its row more than once."""
    order = items.sort(1)
    twice = torch.zeros_like(items, dtype=torch.bool)
    twice[:, 1:] = (order.values[:, 1:] == order.values[:, :-1]) & (order.values[:, 1:] > 0)
    return torch.zeros_like(twice).scatter(1, order.indices, twice)
