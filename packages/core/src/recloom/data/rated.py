"""Interactions with a label: what click models learn from, and what they are measured on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..batch import Batch
from .interactions import Interactions
from .known_first import known_first


class RatedRows(Dataset[Batch]):
    """One training interaction per row: its item as the candidate, its label, and what the user did before it.

    Args:
        interactions: what may be learnt from; `positive` says which of them are labelled 1.
        length: items of a history at most.
        limit: the first `known_first(lengths, limit)` interactions of each user stand in histories only, since
            texts may have been written from them; None = every interaction is a row.
    """

    def __init__(self, interactions: Interactions, length: int, limit: int | None = None) -> None:
        self.interactions, self.length = interactions, length
        self.labels = interactions.labels()  # (N,) by flat position
        users = torch.repeat_interleave(torch.arange(len(interactions.lengths)), interactions.lengths)
        places = interactions.rows()
        if limit is not None:
            first = interactions.starts + known_first(interactions.lengths, limit)
            later = places >= first[users]
            users, places = users[later], places[later]
        self.users, self.places = users, places  # (R,)

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users, places = self.users[rows], self.places[rows]
        starts = self.interactions.starts[users]
        items, times = self.interactions.window(starts, places + 1, self.length + 1)  # (B, L + 1)
        return Batch(
            user=users,
            history=items[:, :-1],
            history_time=times[:, :-1],
            request_time=times[:, -1],
            candidates=items[:, -1:],
            labels=self.labels[places][:, None],
        )

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Every row once, in random order."""
        return torch.randperm(len(self), generator=generator)


class RatedRequests(Dataset[Batch]):
    """One request per user with held-out interactions: these are the candidates, with their labels.

    Args:
        visible: what a request may look back on.
        held_out: the interactions to be told apart; `positive` says which of them are labelled 1.
    """

    def __init__(self, visible: Interactions, held_out: Interactions) -> None:
        users = torch.nonzero(held_out.lengths)[:, 0]
        # like numbers of candidates together: little padding
        self.users = users[held_out.lengths[users].argsort(stable=True)]
        self.visible, self.held_out, self.labels = visible, held_out, held_out.labels()

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users = self.users[rows]
        history, times = self.visible.last(users, max(1, int(self.visible.lengths[users].max())))
        width = int(self.held_out.lengths[users].max())
        candidates, asked = self.held_out.last(users, width)  # (B, C)
        real = candidates > 0
        places = (self.held_out.stops[users][:, None] + torch.arange(-width, 0)).clamp(min=0)
        return Batch(
            user=users,
            history=history,
            history_time=times,
            request_time=asked.masked_fill(~real, torch.iinfo(torch.int64).max).amin(1),
            candidates=candidates,
            labels=self.labels[places] * real,
        )
