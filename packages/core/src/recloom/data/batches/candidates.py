"""Sampled candidate lists: a quicker, different measure, used only by name and marked wherever it stands."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ...errors import RecloomError
from ..interactions import Interactions, repeated

ROUNDS = 50


def sampled_candidates(
    name: str, held_out: Interactions, train: Interactions, known: Interactions, seed: int
) -> Tensor:
    """Each user's held-out items, then N sampled items that the user never had.

    Args:
        name: `uniform-N`, or `popular-N` for sampling by count in the training part.
        held_out: the items to be found.
        train: what popularity is counted on.
        known: all interactions of the users, of whatever part; none of them is sampled for its user.
        seed: of the draw; the same seed gives the same lists for every model.

    Returns:
        (num_users + 1, T + N) int64, 0 where a user has fewer held-out items than T.
    """
    found = re.fullmatch(r"(uniform|popular)-([1-9]\d*)", name)
    if not found:
        raise RecloomError(
            f"candidates={name!r} is not known. Expected `all`, `impressions`, `uniform-N` or `popular-N`, "
            "such as `uniform-100`."
        )
    count = int(found[2])
    generator = torch.Generator().manual_seed(seed)
    weights = (
        train.item_counts().double() if found[1] == "popular" else torch.ones(train.num_items + 1).double()
    )
    weights[0] = 0
    most = int(known.lengths.max())
    if int((weights > 0).sum()) < count + most:
        raise RecloomError(
            f"candidates={name!r} needs {count} items that a user never had, but a user had {most} of "
            f"{int((weights > 0).sum())}. Ask for fewer, or rank `all`."
        )
    users = torch.arange(held_out.num_users + 1)[:, None]
    drawn = _draw(weights, (len(users), count), generator)
    for _ in range(ROUNDS):
        bad = known.contains(users, drawn) | repeated(drawn)
        if not bool(bad.any()):
            break
        drawn[bad] = _draw(weights, (int(bad.sum()),), generator)
    bad = known.contains(users, drawn) | repeated(drawn)
    for user in torch.nonzero(bad.any(1))[:, 0]:  # few items are left, so they are drawn from alone
        left = weights.clone()
        left[known.items[known.starts[user] : known.stops[user]].long()] = 0
        left[drawn[user][~bad[user]]] = 0
        drawn[user, bad[user]] = torch.multinomial(left, int(bad[user].sum()), generator=generator)
    targets, _ = held_out.last(users[:, 0], max(1, int(held_out.lengths.max())))
    return torch.cat([targets, drawn], 1)


def _draw(weights: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    total = weights.cumsum(0)
    points = torch.rand(shape, generator=generator, dtype=torch.float64) * total[-1]
    return torch.searchsorted(total, points, right=True).clamp_(max=len(weights) - 1)
