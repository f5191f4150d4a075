"""ColdStart: the cold-start augmentation loss over simulated preferences, added to the recommender's own loss.

    L = L_rec + weight * L_aug
    pairwise   L_aug = -mean over (u, i+, i-) of log sigmoid(s(u, i+) - s(u, i-))
    positive   L_aug = L_rec of the interactions (u, i+), as if u had interacted with i+ after the training part

Wang, Lu, Caverlee, Chi, Chen: Large Language Models as Data Augmenters for Cold-Start Item Recommendation
(WWW'24 Companion). Nothing changes at serving.

Every step samples `per_step` of all the records, not those of the users in its batch: few users were simulated, so
most batches would have no record and a few many. Sampled evenly, every step moves the cold items, and its expected
gradient is that of the mean over all the records, whatever the batches are.
"""

from __future__ import annotations

from pathlib import Path

import torch
from recloom.batch import Batch
from recloom.data import Catalog, Interactions
from recloom.errors import RecloomError, at_least
from recloom.llm import training_digest
from recloom.losses import Loss, own_loss
from recloom.recommender import Recommender
from torch import Tensor
from torch.nn.functional import softplus

from .preferences import Simulated, read_simulated


class ColdStart(Loss):
    """A loss with preferences between cold items, which have no interactions yet.

    A base that draws its negatives from all items pushes cold items down at every step. `SampledSoftmax` with
    `sampling: popularity` never draws them, so they learn from the simulated records alone.

    Args:
        pairs: Parquet file of `recloom simulate`, made from the training part that is trained on.
        base: the loss beside it; None = the recommender's own.
        weight: of the simulated records; 0 leaves the base as it is.
        per_step: records of a step; all of them where the file holds no more.
    """

    users: Tensor
    preferred: Tensor
    other: Tensor

    def __init__(
        self, pairs: str, base: Loss | None = None, weight: float = 1.0, per_step: int = 256
    ) -> None:
        super().__init__()
        at_least(0, weight=weight)
        at_least(1, per_step=per_step)
        self.pairs, self.base, self.weight, self.per_step = pairs, base, weight, per_step
        self.interactions: Interactions | None = None
        self.simulated: Simulated | None = None
        for name in ("users", "preferred", "other"):  # (P,) int64 indices; `other` is 0 in positive mode
            self.register_buffer(name, torch.empty(0, dtype=torch.long), persistent=False)

    def prepare(self, recommender: Recommender, catalog: Catalog) -> None:
        """Read the records as indices of this catalogue; RecloomError where one names an unknown id."""
        if self.base is None:
            self.base = own_loss(recommender, "ColdStart")
        self.base.prepare(recommender, catalog)
        self.simulated = read_simulated(Path(self.pairs))
        for name, index in self.simulated.indices(catalog).items():
            setattr(self, name, torch.from_numpy(index).to(self.users.device))

    def fit(self, interactions: Interactions) -> None:
        """Raise RecloomError for records of other training rows, whose histories may hold what is tested here."""
        if self.base is None or self.simulated is None:
            raise RecloomError("ColdStart needs prepare(recommender, catalog) before fit(interactions)")
        users, items = interactions.pairs()
        found = training_digest(users.numpy(), items.numpy())
        if found != self.simulated.made_from.training:
            raise RecloomError(
                f"{self.pairs} was simulated from other training interactions ({self.simulated.made_from.dataset}, "
                f"digest {self.simulated.made_from.training}) than this run trains on (digest {found}). "
                "Run `recloom simulate` with the data and the split of this run."
            )
        self.base.fit(interactions)
        self.interactions = interactions

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        assert self.base is not None
        loss: Tensor = self.base(recommender, batch)
        if not self.weight or not len(self.users):
            return loss
        return loss + self.weight * self.augmentation(recommender, self.draw(), pairs=of_pairs(batch))

    def draw(self) -> Tensor:
        """(n,) row numbers of records, n at most `per_step`; sampled after the base, whose randomness is unchanged."""
        count = len(self.users)
        if count <= self.per_step:
            return torch.arange(count, device=self.users.device)
        return torch.randperm(count, device=self.users.device)[: self.per_step]

    def augmentation(self, recommender: Recommender, rows: Tensor, pairs: bool = False) -> Tensor:
        """The mean over the given records, as above; `pairs` says that training rows are pairs of user and item."""
        assert self.base is not None
        assert self.simulated is not None
        if self.simulated.made_from.augment == "positive":
            added: Tensor = self.base(recommender, self.added(recommender, rows, pairs))
            return added
        both = torch.stack([self.preferred[rows], self.other[rows]], 1)  # (n, 2)
        return preference(recommender.score(self.requests(recommender, rows, both)))

    def requests(self, recommender: Recommender, rows: Tensor, candidates: Tensor) -> Batch:
        """Requests of the users of these records, with their whole training history."""
        assert self.interactions is not None
        users = self.users[rows].cpu()
        longest = recommender.max_len or int(self.interactions.lengths[users].max())
        length = max(1, longest) if "history" in recommender.inputs else 1
        history, times = (one.to(self.users.device) for one in self.interactions.last(users, length))
        return Batch.of(
            history, candidates, user=self.users[rows], history_time=times, request_time=times[:, -1]
        )

    def added(self, recommender: Recommender, rows: Tensor, pairs: bool = False) -> Batch:
        """The training rows of interactions (u, i+) that follow each user's last one."""
        target = self.preferred[rows]
        if pairs:
            return Batch.of(torch.zeros_like(target)[:, None], user=self.users[rows], labels=target[:, None])
        batch = self.requests(recommender, rows, target[:, None])
        batch.labels = torch.zeros_like(batch.history)
        batch.labels[:, -1] = target
        return batch


def of_pairs(batch: Batch) -> bool:
    """Whether a training batch holds pairs of user and item, which come without a history (`PairRows`)."""
    return batch.history.shape[1] == batch.labels.shape[1] == 1 and not bool(batch.history.any())


def preference(scores: Tensor) -> Tensor:
    """-mean log sigmoid(s+ - s-) of (n, 2) scores, the preferred item's first."""
    return softplus(scores[:, 1] - scores[:, 0]).mean()
