"""Scores and lists as they are served and measured: cold-start users, masks, columns of targets and of lists."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..batch import Batch
from ..errors import RecloomError
from ..llm import llm_options
from ..metrics.functional import first_k
from ..recommender import Recommender


def unknown_users(recommender: Recommender, batch: Batch) -> Tensor:
    """(B,) whether the recommender knows nothing of the user by what it reads, be it the history or the index."""
    inputs = recommender.inputs
    known = torch.zeros(len(batch), dtype=torch.bool, device=batch.user.device)
    if not {"history", "user"} & set(inputs):
        return known
    if "history" in inputs:
        known |= (batch.history > 0).any(1)
    if "user" in inputs:
        known |= recommender.knows_users(batch.user)
    return ~known


def served_scores(recommender: Recommender, popularity: Tensor, batch: Batch) -> Tensor:
    """(B, C) scores, those of (num_items + 1,) `popularity` where nothing is known of the user, padding -inf."""
    unknown = unknown_users(recommender, batch)
    if bool(unknown.any()):
        popular = popularity[batch.candidates].expand(len(batch), -1)
        if llm_options(recommender.modules()):  # nothing is sent for scores that popularity replaces
            scores = popular.float().clone()
            if not bool(unknown.all()):
                scores[~unknown] = recommender.score(batch.rows(~unknown)).to(scores.dtype)
        else:
            scores = recommender.score(batch)
            scores = torch.where(unknown[:, None], popular.to(scores.dtype), scores)
    else:
        scores = recommender.score(batch)
    return scores.masked_fill(batch.candidates == 0, float("-inf"))


def retrieves(recommender: Recommender) -> bool:
    """Whether the recommender makes lists by a `retrieve` of its own, which are then what is measured and served."""
    return type(recommender).retrieve is not Recommender.retrieve


def served_lists(
    recommender: Recommender, popularity: Tensor, batch: Batch, k: int, masked: Tensor
) -> tuple[Tensor, Tensor]:
    """(B, k) items and their scores, best first; the end of a shorter list is -inf.

    (B, M) masked items, 0 = none, are in no list. A recommender that retrieves makes the lists itself; where nothing
    is known of the user they hold the most popular items.
    """
    k = min(k, batch.candidates.shape[1])
    if not retrieves(recommender):
        scores = mask_items(served_scores(recommender, popularity, batch), batch.candidates, masked)
        values, columns = first_k(scores, k)
        return batch.candidates.expand(len(batch), -1).gather(1, columns), values
    batch = replace(batch, candidates=without(batch.candidates, masked))  # (B, C)
    items, scores = recommender.retrieve(batch, k)
    short = k - items.shape[1]
    items, scores = pad(items, (0, short)), pad(scores, (0, short), value=float("-inf"))
    unknown = unknown_users(recommender, batch)[:, None]
    popular = popularity[batch.candidates].masked_fill(batch.candidates == 0, float("-inf"))
    values, columns = first_k(popular, k)
    items = torch.where(unknown, batch.candidates.gather(1, columns), items)
    return items, torch.where(unknown, values.to(scores.dtype), scores)


def masked_items(batch: Batch, mask_seen: bool) -> Tensor:
    """(B, M) items that are not to be recommended: those of the history, or none."""
    return batch.history if mask_seen else batch.history[:, :0]


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


def without(candidates: Tensor, masked: Tensor) -> Tensor:
    """(B, C) candidates with 0 in place of each row's masked items; candidates (1 or B, C), masked (B, M), 0 = none."""
    spread = candidates.expand(len(masked), -1)
    return spread.masked_fill(
        mask_items(torch.zeros_like(spread, dtype=torch.float), candidates, masked).isneginf(), 0
    )


def list_columns(items: Tensor, candidates: Tensor, who: str) -> Tensor:
    """(B, K) columns of retrieved items among (B, C) candidates, -1 for item 0.

    Raises RecloomError where a list holds an item that is no candidate of its row, or one twice.
    """
    rows, size = (
        torch.arange(len(items), device=items.device)[:, None],
        int(max(candidates.max(), items.max())) + 1,
    )
    places = torch.full((len(items), size), -1, device=items.device)
    places.scatter_(
        1, candidates, torch.arange(candidates.shape[1], device=items.device).expand_as(candidates)
    )
    columns = places[rows, items].masked_fill(items == 0, -1)  # (B, K)
    if ((columns < 0) & (items > 0)).any():
        raise RecloomError(
            f"retrieve() of {who} gave an item that is no candidate of its request, or is masked"
        )
    given = columns.sort(1).values
    if ((given[:, 1:] == given[:, :-1]) & (given[:, 1:] >= 0)).any():
        raise RecloomError(f"retrieve() of {who} gave an item twice in one list")
    return columns


def scores_of_lists(columns: Tensor, size: int) -> Tensor:
    """(B, size) scores that rank (B, K) columns as they stand, none equal; what is in no list is -inf, so missed."""
    count = columns.shape[1]
    order = torch.arange(count, 0, -1, dtype=torch.float, device=columns.device).expand_as(columns)
    wide = order.new_full((len(columns), size + 1), float("-inf"))  # the last column takes what is no item
    return wide.scatter(1, columns.masked_fill(columns < 0, size), order)[:, :size]
