"""Which rows make a batch, as a function of seed and epoch, and the loader that gathers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ...batch import Batch
from ...errors import RecloomError
from .requests import ImpressionRequests, LabelledRequests, TargetRequests
from .training_rows import Rows

Draw = Callable[[torch.Generator], Tensor]


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
    dataset: Rows | TargetRequests | LabelledRequests | ImpressionRequests,
    sampler: BatchSampler,
    num_workers: int = 0,
) -> DataLoader[Batch]:
    """A DataLoader whose dataset receives the row numbers of a whole batch at once."""
    if not len(dataset):
        raise RecloomError(
            "there is nothing to learn from or to evaluate: no user has enough interactions after the split. "
            "Look at the counts with `recloom data check`, or use another split."
        )
    collate = getattr(dataset, "collate", None)
    return DataLoader(
        cast(Dataset[Batch], dataset),
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
    )
