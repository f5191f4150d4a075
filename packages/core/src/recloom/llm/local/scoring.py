"""Scoring with a causal language model: options behind a prompt, the tokens of a text, and noise for sampling.

Prompts are padded on the left, so that the last column is the last token of each, whatever its length; positions
count true tokens. What is computed for a row is then the same alone and in a batch, up to rounding.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tokens = Sequence[int]


@dataclass(frozen=True)
class Continuation:
    """An option of more than one token, behind prompt `owner`; `place` is where its score goes."""

    owner: int
    place: int
    tokens: Tokens


@torch.inference_mode()
def score_options(
    model: Any, prompts: Sequence[Tokens], options: Sequence[Sequence[Tokens]], pad: int, rows: int
) -> list[list[float]]:
    """Sum of log-probabilities of each option's tokens, given its prompt, natural logarithm.

    The prompts are read once, together. Options of one token are then known; the others go on from the kept
    keys and values of their prompts, at most `rows` at once, sorted by length.
    """
    tokens, mask = (each.to(model.device) for each in padded(prompts, pad, left=True))
    flat = [
        (owner, option) for owner, of_prompt in enumerate(options) for option in of_prompt
    ]  # by prompt, then option
    further = sorted(
        (Continuation(owner, at, each) for at, (owner, each) in enumerate(flat) if len(each) > 1),
        key=lambda one: len(one.tokens),
    )
    read = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions(mask),
        use_cache=bool(further),
        logits_to_keep=1,
    )
    first = read.logits[:, -1].float().log_softmax(-1)  # (B, vocabulary)
    owners, begins = [owner for owner, _ in flat], [option[0] for _, option in flat]
    scores = first[owners, begins].cpu()
    for start in range(0, len(further), rows):
        batch = further[start : start + rows]
        scores[[one.place for one in batch]] += _continued(model, read.past_key_values, mask, batch, pad)
    values = iter(scores.tolist())
    return [[next(values) for _ in of_prompt] for of_prompt in options]


def _continued(model: Any, cache: Any, mask: Tensor, batch: Sequence[Continuation], pad: int) -> Tensor:
    """(R,) log-probability of all tokens but the first of each option; the cache is left as it was."""
    owners = torch.tensor([one.owner for one in batch], device=mask.device)
    given, kept = (each.to(mask.device) for each in padded([one.tokens[:-1] for one in batch], pad))
    wanted = padded([one.tokens[1:] for one in batch], pad)[0].to(mask.device)  # (R, T)
    before = mask[owners]
    logits = model(
        input_ids=given,
        attention_mask=torch.cat([before, kept], 1),
        position_ids=before.sum(1, keepdim=True) + torch.arange(given.shape[1], device=mask.device),
        past_key_values=_rows(cache, owners),
        use_cache=True,
    ).logits.float()  # (R, T, vocabulary)
    said = logits.gather(-1, wanted[..., None]).squeeze(-1) - logits.logsumexp(-1)
    total: Tensor = (said * kept).sum(1).cpu()
    return total


def _rows(cache: Any, owners: Tensor) -> Any:
    """A cache with the rows `owners`; the given one is left as it was."""
    taken = copy.copy(cache)
    taken.layers = [copy.copy(layer) for layer in cache.layers]
    taken.batch_select_indices(owners)
    return taken


def padded(rows: Sequence[Tokens], pad: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """(B, L) tokens and (B, L) mask, 1 where a token is, both int64."""
    width = max(map(len, rows))
    tokens = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(tokens)
    for at, row in enumerate(rows):
        where = slice(width - len(row), None) if left else slice(len(row))
        tokens[at, where] = torch.tensor(row)
        mask[at, where] = 1
    return tokens, mask


def positions(mask: Tensor) -> Tensor:
    """Place of each token among the true ones, from 0; 0 where padded."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in batches of at most `size`, longest first, so that neighbours need little padding."""
    order = sorted(range(len(lengths)), key=lambda at: -lengths[at])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def seed_of(seed: int, number: int, tokens: Tokens) -> int:
    """A seed that a prompt and the number of its sample determine, and nothing else."""
    digest = hashlib.sha256(repr((seed, number, list(tokens))).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


class Noise:
    """A logits processor: with Gumbel noise added, the largest logit is a sample of softmax(logits / temperature).

    Every row draws from a generator of its own, so that what it samples does not depend on its neighbours.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.random = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        size = scores.shape[1]
        drawn = torch.stack([torch.rand(size, generator=g, dtype=torch.float64) for g in self.random])
        noise = -(-drawn.log()).log()  # (B, vocabulary); -inf where 0 was drawn, which chooses nothing
        return (scores.double() / self.temperature + noise.to(scores.device)).float()


@torch.inference_mode()
def log_probs(model: Any, rows: Sequence[Tokens], pad: int) -> list[list[float]]:
    """Natural log-probabilities of all tokens but the first of each row, padding left out.

    Rows are padded on the right, behind every token that is asked for, so that padding is never read.
    """
    tokens, mask = (each.to(model.device) for each in padded(rows, pad))  # (B, L)
    logits = model(
        input_ids=tokens, attention_mask=mask, position_ids=positions(mask), use_cache=False
    ).logits  # (B, L, vocabulary)
    found = []
    for given, row in zip(
        rows, logits, strict=True
    ):  # one at a time, as a row of numbers for each token is large
        known = row[: len(given) - 1].float()
        wanted = torch.tensor(given[1:], device=known.device)[:, None]
        found.append((known.gather(1, wanted)[:, 0] - known.logsumexp(1)).tolist())
    return found
