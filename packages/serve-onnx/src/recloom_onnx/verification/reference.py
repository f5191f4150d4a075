"""Reference scores that an artefact must reproduce, computed in torch without any code of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from recloom.batch import Batch
from recloom.recommender import Recommender
from recloom.training import RecModule, mask_items
from torch import Tensor

Reference = Callable[[Batch, Tensor, Tensor], Tensor]
"""From requests, (B, M) blocked item indices, 0 = none, and (B, num_items) whether an item is allowed, to
(B, num_items) scores as they are served."""


def reference_scores(
    recommender: Recommender,
    popularity: Tensor,
    batch: Batch,
    blocked: Tensor,
    allowed: Tensor,
    seen: Literal["masked", "kept"] = "masked",
) -> Tensor:
    """Scores of items 1 to num_items, popularity for cold-start users, -inf where seen, blocked or not allowed.

    Args:
        recommender: in eval mode.
        popularity: (num_items + 1,).
        batch: requests; its candidates are not read.
        blocked: (B, M) item indices never to recommend, 0 = none.
        allowed: (B, num_items) bool.
        seen: whether items of the history may be recommended.
    """
    every = torch.arange(1, recommender.num_items + 1)[None]
    scores = recommender.score(replace(batch, candidates=every)).float()
    known = torch.zeros(len(batch), dtype=torch.bool)
    if "history" in recommender.inputs:
        known |= batch.history.any(1)
    if "user" in recommender.inputs:
        known |= recommender.knows_users(batch.user)
    if {"history", "user"} & {*recommender.inputs}:
        scores = torch.where(known[:, None], scores, popularity[1:].float())
    hidden = torch.cat([batch.history, blocked], 1) if seen == "masked" else blocked
    wide = torch.nn.functional.pad(scores, (1, 0))  # column 0 takes the padding
    return wide.scatter(1, hidden, -torch.inf)[:, 1:].masked_fill(~allowed, -torch.inf)


def served_scores(module: RecModule, seen: Literal["masked", "kept"] = "masked") -> Reference:
    """The scores that a trained module serves and is measured by."""

    def scores(batch: Batch, blocked: Tensor, allowed: Tensor) -> Tensor:
        every = torch.arange(1, module.recommender.num_items + 1)[None]
        ranked = module.rank(replace(batch, candidates=every), seen == "masked")
        return mask_items(ranked, every, blocked).float().masked_fill(~allowed, -torch.inf)

    return scores
