"""Training rows and evaluation requests: whole batches gathered from flat tensors in one indexing operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..batch import Batch
from ..errors import RecloomError
from .impressions import Impressions
from .interactions import Interactions, ranges, repeated
from .rated import RatedRequests, RatedRows

Draw = Callable[[torch.Generator], Tensor]


class Windows(Dataset[Batch]):
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
        items, times = self.interactions.window(starts, stops + 1, self.length + 1)  # (B, L + 1)
        history = items[:, :-1]
        return Batch(
            user=users,
            history=history,
            history_time=times[:, :-1],
            request_time=times[:, -1],
            candidates=history.new_zeros(1, 0),
            labels=items[:, 1:] * (history > 0),
        )

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Every window once, in random order."""
        return torch.randperm(len(self), generator=generator)


class Pairs(Dataset[Batch]):
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
        self.lengths, self.by = interactions.lengths, by
        self.first = torch.cumsum(self.lengths, 0) - self.lengths

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users = self.users[rows]
        return Batch.of(
            torch.zeros(len(users), 1, dtype=torch.long), user=users, labels=self.items[rows][:, None]
        )

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Row numbers of one epoch."""
        if self.by == "interaction":
            return torch.randperm(len(self), generator=generator)
        active = torch.nonzero(self.lengths)[:, 0]
        users = active[torch.randint(len(active), (len(self),), generator=generator)]
        place = torch.rand(len(self), generator=generator, dtype=torch.float64) * self.lengths[users]
        return self.first[users] + place.long()


class Requests(Dataset[Batch]):
    """One evaluation request per user with held-out items.

    Args:
        visible: what a request may look back on.
        held_out: the items to be found, by user.
        candidates: (C,) int64 items to rank for every request, or (num_users + 1, C) by user.
    """

    def __init__(self, visible: Interactions, held_out: Interactions, candidates: Tensor) -> None:
        users = torch.nonzero(held_out.lengths)[:, 0]
        self.users = users[
            visible.lengths[users].argsort(stable=True)
        ]  # like lengths together: little padding
        self.visible, self.held_out, self.candidates = visible, held_out, candidates

    def __len__(self) -> int:
        return self.users.numel()

    def __getitem__(self, rows: Tensor) -> Batch:
        users = self.users[rows]
        longest = max(1, int(self.visible.lengths[users].max()))
        history, times = self.visible.last(users, longest)
        targets, target_times = self.held_out.last(users, int(self.held_out.lengths[users].max()))
        targets = targets.masked_fill(repeated(targets), 0)  # an item bought twice is one item to be found
        asked = target_times.masked_fill(targets == 0, torch.iinfo(torch.int64).max).amin(1)
        shared = self.candidates.dim() == 1
        return Batch(
            user=users,
            history=history,
            history_time=times,
            request_time=asked,
            candidates=self.candidates[None] if shared else self.candidates[users],
            labels=targets,
        )


class BatchSampler(Sampler[Tensor]):
    """Row numbers, a batch at a time; a pure function of seed and epoch, so that a resumed run sees the same.

    Args:
        draw: from a generator, the row numbers of an epoch; None = in order.
        size: rows in the dataset.
        batch_size: rows of a batch.
        skip: batches of the first epoch that were already served before an interruption.
        rank, world: this process and how many share the work; each takes every world-th batch.
    """

    def __init__(
        self, size: int, batch_size: int, draw: Draw | None = None, *, seed: int = 0, epoch: int = 0, skip: int = 0,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self.size, self.batch_size, self.draw = size, batch_size, draw
        self.seed, self.epoch, self.skip = seed, epoch, (epoch, skip)
        self.rank, self.world = rank, world

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[Tensor]:
        if self.draw is None:
            order = torch.arange(self.size)
        else:
            order = self.draw(torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch))
        batches = torch.split(order, self.batch_size)
        skip = self.skip[1] if self.epoch == self.skip[0] else 0
        for turn in range(skip, len(self)):
            yield batches[(turn * self.world + self.rank) % len(batches)]


def loader(
    dataset: Windows | Pairs | RatedRows | Requests | RatedRequests | Impressions,
    sampler: BatchSampler,
    num_workers: int = 0,
) -> DataLoader[Batch]:
    """A DataLoader whose dataset receives the row numbers of a whole batch at once."""
    if not len(dataset):
        raise RecloomError(
            "there is nothing to learn from or to evaluate: no user has enough interactions after the split. "
            "Look at the counts with `recloom data check`, or use another split."
        )
    return DataLoader(dataset, batch_size=None, sampler=sampler, num_workers=num_workers)
