"""Training rows and evaluation requests: whole batches gathered from flat tensors in one indexing operation.

Interactions with a label: what click models learn from, and what they are measured on.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...batch import Batch
from ..interactions import Interactions, ranges
from ..provenance import knowledge_prefix


@runtime_checkable
class Rows(Protocol):
    """What a recommender is trained on; `Recommender.training_rows` makes it.

    Where it has a method `collate` too, the loader calls it with what `__getitem__` returned, to make the Batch.
    """

    def __len__(self) -> int:
        """Rows of an epoch."""

    def __getitem__(self, rows: Tensor) -> Batch:
        """Gather the batch of (B,) int64 row numbers."""

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Row numbers of one epoch in their order, (len(self),) int64: a function of the generator alone."""


class SequenceRows(Dataset[Batch]):
    """Windows of users' sequences; at every position the label is the item that follows.

    Args:
        interactions: what may be learnt from.
        length: positions of a window.
        which: `all` cuts a long sequence, from its end, into windows that share no label;
            `last` keeps the window at its end.
    """

    def __init__(
        self, interactions: Interactions, length: int, which: Literal["all", "last"] = "all"
    ) -> None:
        self.interactions, self.length = interactions, length
        labels = (interactions.lengths - 1).clamp(min=0)  # positions that have a successor
        count = (labels + length - 1) // length
        if which == "last":
            count = count.clamp(max=1)
        self.users = torch.repeat_interleave(torch.arange(len(count)), count)  # (W,)
        nth = ranges(torch.zeros_like(count), count)  # 0 is the window at the end
        self.stops = interactions.stops[self.users] - 1 - nth * length  # one past the last input

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users, stops = self.users[rows], self.stops[rows]
        starts = self.interactions.starts[users]
        items, times, events = self.interactions.window_rows(starts, stops + 1, self.length + 1)  # (B, L + 1)
        history = items[:, :-1]
        real = history > 0
        return Batch.of(
            history,
            user=users,
            history_time=times[:, :-1],
            request_time=times[:, -1],
            labels=items[:, 1:] * real,
            history_event=events[:, :-1],
            label_event=events[:, 1:] * real,
            context=self.interactions.context_at(stops),
        )

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Every window once, in random order."""
        return torch.randperm(len(self), generator=generator)


class PairRows(Dataset[Batch]):
    """One (user, item) interaction per row.

    Args:
        interactions: what may be learnt from.
        by: an epoch goes through every `interaction` once; or draws as many times a `user` uniformly
            and one of the user's items (LightGCN's sampling).
    """

    def __init__(
        self, interactions: Interactions, by: Literal["interaction", "user"] = "interaction"
    ) -> None:
        self.users, self.items = interactions.pairs()
        self.interactions = interactions
        self.places = interactions.rows() if interactions.context else self.users
        self.lengths, self.by = interactions.lengths, by
        self.first = torch.cumsum(self.lengths, 0) - self.lengths

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users = self.users[rows]
        return Batch.of(
            torch.zeros(len(users), 1, dtype=torch.long),
            user=users,
            labels=self.items[rows][:, None],
            context=self.interactions.context_at(self.places[rows]),
        )

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Row numbers of one epoch."""
        if self.by == "interaction":
            return torch.randperm(len(self), generator=generator)
        active = torch.nonzero(self.lengths)[:, 0]
        users = active[torch.randint(len(active), (len(self),), generator=generator)]
        place = torch.rand(len(self), generator=generator, dtype=torch.float64) * self.lengths[users]
        return self.first[users] + place.long()


class PointwiseRows(Dataset[Batch]):
    """One training interaction per row: its item as the candidate, its label, and what the user did before it.

    Args:
        interactions: what may be learnt from; `positive` says which of them are labelled 1.
        length: items of a history at most.
        limit: the first `knowledge_prefix(lengths, limit)` interactions of each user stand in histories only, since
            texts may have been written from them; None = every interaction is a row.
    """

    def __init__(self, interactions: Interactions, length: int, limit: int | None = None) -> None:
        self.interactions, self.length = interactions, length
        self.labels = interactions.labels()  # (N,) by flat position
        users = torch.repeat_interleave(torch.arange(len(interactions.lengths)), interactions.lengths)
        places = interactions.rows()
        if limit is not None:
            first = interactions.starts + knowledge_prefix(interactions.lengths, limit)
            later = places >= first[users]
            users, places = users[later], places[later]
        self.users, self.places = users, places  # (R,)

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users, places = self.users[rows], self.places[rows]
        starts = self.interactions.starts[users]
        items, times, events = self.interactions.window_rows(
            starts, places + 1, self.length + 1
        )  # (B, L + 1)
        return Batch.of(
            items[:, :-1],
            items[:, -1:],
            user=users,
            history_time=times[:, :-1],
            request_time=times[:, -1],
            labels=self.labels[places][:, None],
            history_event=events[:, :-1],
            context=self.interactions.context_at(places),
        )

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Every row once, in random order."""
        return torch.randperm(len(self), generator=generator)
