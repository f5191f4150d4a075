"""How probable a causal language model finds each token of a text, given the tokens before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .causal import Tokens, padded, positions


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
