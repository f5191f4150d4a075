"""From scores to ranks: masks, the columns of the targets, and what metrics know of items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..data.catalog import Catalog
from ..metrics import ItemFacts


def cosine_share(step: int, steps: int) -> float:
    """.5 (1 + cos(pi step / (steps - 1))): 1 in the first of `steps` optimiser steps (0), 0 in the last."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps - 1))))


def item_facts(catalog: Catalog, counts: Tensor, num_items: int, metrics: Sequence[str]) -> ItemFacts:
    """What metrics of lists know of items: training counts, and categories and text vectors where asked for.

    num_items of them may be ranked, which the share that is ever recommended is measured by.
    """
    names = {metric.partition("@")[0] for metric in metrics}
    return ItemFacts(
        num_items=num_items,
        popularity=counts,
        categories=torch.from_numpy(catalog.categories()) if "category_diversity" in names else None,
        vectors=torch.from_numpy(text_vectors(catalog)) if "diversity" in names else None,
    )


def text_vectors(catalog: Catalog) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(num_items + 1, 512) hashed n-grams of all the text columns, for the diversity of lists."""
    from ..llm import HashingNgrams

    encoder = HashingNgrams()
    vectors = np.zeros((catalog.num_items + 1, encoder.dim), np.float32)
    vectors[1:] = encoder.encode(catalog.texts(catalog.text_columns()))
    return vectors


def mask_items(scores: Tensor, candidates: Tensor, seen: Tensor) -> Tensor:
    """Put -inf where a candidate is among the row's seen items; scores (B, C), seen (B, L) with 0 = none."""
    shared = candidates.shape[0] == 1
    whole = shared and int(candidates[0, 0]) == 1 and int(candidates[0, -1]) == candidates.shape[1]
    if whole:  # candidates are 1..C, so item i stands in column i - 1
        rows, places = torch.nonzero(seen, as_tuple=True)
        return scores.index_put((rows, seen[rows, places] - 1), scores.new_tensor(float("-inf")))
    size = int(max(candidates.max(), seen.max())) + 1 if seen.numel() else 1
    row = torch.arange(len(scores), device=scores.device)[:, None] * size
    hit = torch.isin(row + candidates, (row + seen)[seen > 0])
    return scores.masked_fill(hit, float("-inf"))


def target_columns(batch: Batch, num_items: int) -> Tensor:
    """Columns of the held-out items among the candidates: (B, T), -1 where none."""
    if batch.candidates.shape == (1, num_items):
        return batch.labels - 1
    same = batch.candidates[:, None, :] == batch.labels[:, :, None]  # (B, T, C)
    found = same.any(2) & (batch.labels > 0)
    return torch.where(found, same.int().argmax(2), -1)
