"""From rewards to how likely each text of an item is."""

from __future__ import annotations

from typing import Literal

import torch
from recloom.errors import RecloomError
from torch import Tensor


def posterior(rewards: Tensor, beta: float, prior: Tensor) -> Tensor:
    """q (N, K) from rewards r (N, K) in nats, beta > 0 in nats, and the prior p (N, K), whose rows sum to 1.

    A text with prior 0 does not exist; a row without any text stays 0. Beta infinite gives the prior.
    """
    check_beta(beta)
    logits = prior.double().log() + rewards.double() / beta
    q = torch.softmax(logits, 1)
    return torch.where((prior > 0).any(1, keepdim=True), q, 0.0).to(rewards.dtype)


def check_beta(beta: float) -> None:
    """Raise RecloomError unless beta is above 0."""
    if not beta > 0:
        raise RecloomError(f"beta must be above 0 nats; found {beta}. Near 0 chooses the best text alone.")


def uniform(exists: Tensor) -> Tensor:
    """The prior of sampled texts: 1 / K_i for each of the K_i texts of an item; exists is (N, K) bool."""
    return exists / exists.sum(1, keepdim=True).clamp(min=1)


def centred(rewards: Tensor, exists: Tensor) -> Tensor:
    """Rewards (N, K) minus the mean over the texts of their item, 0 where there is no text."""
    mean = (rewards * exists).sum(1, keepdim=True) / exists.sum(1, keepdim=True).clamp(min=1)
    return torch.where(exists, rewards - mean, 0.0)


def sample(q: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(N,) one text of each item, drawn from its row of q (N, K); 0 where the row is 0."""
    ladder = q.double().cumsum(1)
    drawn = torch.rand(len(q), 1, generator=generator, dtype=torch.float64, device=q.device)
    return (drawn * ladder[:, -1:] >= ladder[:, :-1]).sum(1) * (ladder[:, -1] > 0)


def served(vectors: Tensor, q: Tensor, how: Literal["best", "mean"]) -> Tensor:
    """(N, d) from vectors (N, K, d): that of the likeliest text (`best`, the first among equals), or E_q (`mean`)."""
    if how == "best":
        return vectors[torch.arange(len(q)), q.argmax(1)]
    return torch.einsum("nk,nkd->nd", q, vectors)
