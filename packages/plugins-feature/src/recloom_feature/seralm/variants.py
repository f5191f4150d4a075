"""Text variants of items, the posterior over them, and a recommender that reads one of them (SeRALM, reconstruction).

Which of its texts helps an item: the posterior

    q_i(k) = p_i(k) exp(r_ik / beta) / sum over l of p_i(l) exp(r_il / beta)

maximises E_q[r_i] - beta KL(q || p_i), where p_i is the prior of the language model: 1 / K for each of K samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from recloom.errors import RecloomError
from recloom.nn import ItemEmbedding
from recloom.recommender import Recommender
from torch import Tensor


@dataclass(frozen=True)
class Variants:
    """Encoded texts of all items, up to K of each.

    Attributes:
        vectors: (num_items + 1, K, d) float32, row 0 and absent texts are zero.
        exists: (num_items + 1, K) bool.
    """

    vectors: Tensor
    exists: Tensor

    def pick(self, choice: Tensor) -> Tensor:
        """(num_items + 1, d) the vectors of one text of each item; choice (num_items + 1,) int64."""
        return self.vectors[torch.arange(len(choice), device=choice.device), choice]

    def to(self, device: torch.device) -> Variants:
        return Variants(self.vectors.to(device), self.exists.to(device))


def text_inputs(recommender: Recommender) -> list[ItemEmbedding]:
    """The modules through which a recommender reads item vectors; RecloomError where it has none."""
    found = [m for m in recommender.modules() if isinstance(m, ItemEmbedding) and m.kind != "id"]
    if not found:
        raise RecloomError(
            f"{type(recommender).__name__} reads no item vectors, so its items have no texts. "
            "Set its item_input to id+vector, gated or vector."
        )
    return found


@contextmanager
def reading(recommender: Recommender, vectors: Tensor) -> Iterator[None]:
    """Within the context the recommender reads these (num_items + 1, d) item vectors instead of its own."""
    inputs = text_inputs(recommender)
    own = [each.vectors for each in inputs]
    if vectors.shape != own[0].shape:
        raise RecloomError(
            f"the sampled vectors are {tuple(vectors.shape)}, those of the recommender {tuple(own[0].shape)}. "
            "Give --data.vectors of the same dataset and encoder."
        )
    try:
        _put(inputs, [vectors] * len(inputs))
        yield
    finally:
        _put(inputs, own)


def _put(inputs: list[ItemEmbedding], vectors: list[Tensor]) -> None:
    for each, value in zip(inputs, vectors, strict=True):
        each.vectors = value
        each.train(each.training)  # drops the table that was computed from other vectors


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
    draw = torch.rand(len(q), 1, generator=generator, dtype=torch.float64, device=q.device)
    return (draw * ladder[:, -1:] >= ladder[:, :-1]).sum(1) * (ladder[:, -1] > 0)


def served(vectors: Tensor, q: Tensor, how: Literal["best", "mean"]) -> Tensor:
    """(N, d) from vectors (N, K, d): that of the likeliest text (`best`, the first among equals), or E_q (`mean`)."""
    if how == "best":
        return vectors[torch.arange(len(q)), q.argmax(1)]
    return torch.einsum("nk,nkd->nd", q, vectors)
