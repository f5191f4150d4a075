"""Training losses over query and item vectors, or over scores. A loss receives the recommender, so it may ask for more.

Padding (item 0) is never a target, a negative or a class.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from .batch import Batch
from .data.catalog import Catalog
from .data.interactions import Interactions
from .errors import RecloomError
from .nn.cross_entropy import linear_cross_entropy
from .recommender import Queries, Recommender, VectorRecommender
from .spec import build


class Loss(nn.Module):
    """A scalar to minimise, from a recommender and a training batch."""

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define forward(recommender, batch)")

    def prepare(self, recommender: Recommender, catalog: Catalog) -> None:
        """Read what needs the recommender or raw ids, before `fit` and before the optimiser; nothing by default."""

    def fit(self, interactions: Interactions) -> None:
        """Learn what the loss needs to know of the training interactions; nothing by default."""


class CrossEntropy(Loss):
    """Softmax over the whole catalogue at every query, in blocks: memory does not grow with queries x items."""

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        q = queries(recommender, batch, self)
        bias = None if q.bias is None else q.bias[1:]
        return linear_cross_entropy(q.vectors, q.items[1:], q.targets - 1, bias)


class SampledLoss(Loss):
    """A loss that compares each target with sampled negatives.

    Args:
        negatives: negatives for each query.
        shared: draw one set for the whole batch (fast) instead of one for each query.
    """

    def __init__(self, negatives: int = 1, shared: bool = False) -> None:
        super().__init__()
        if negatives < 1:
            raise RecloomError(f"{type(self).__name__} needs negatives >= 1, found {negatives}")
        self.negatives, self.shared = negatives, shared
        self.interactions: Interactions | None = None

    def fit(self, interactions: Interactions) -> None:
        self.interactions = interactions

    def draw(self, q: Queries) -> Tensor:
        """Uniform negatives from the catalogue: (N, n), or (1, n) when shared."""
        rows = 1 if self.shared else q.vectors.shape[0]
        return torch.randint(1, q.items.shape[0], (rows, self.negatives), device=q.vectors.device)

    def draw_unseen(self, q: Queries) -> Tensor:
        """Uniform over the items that each query's user has not had in training: (N, n); as `draw` when shared."""
        if self.interactions is None or self.shared:
            return SampledLoss.draw(self, q)
        drawn = self.interactions.draw_unseen(q.users.cpu(), self.negatives)
        return drawn.to(q.vectors.device, non_blocking=True)

    def scores(self, q: Queries, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the targets (N,) and of the negatives (N, n), in float32 at least under autocast too."""
        positive = (q.vectors * q.items[q.targets]).sum(1)
        if negatives.shape[0] == 1:
            negative = q.vectors @ q.items[negatives[0]].T
        elif negatives.shape[1] == 1:
            negative = (q.vectors * q.items[negatives[:, 0]]).sum(1, keepdim=True)
        else:
            negative = torch.einsum("nd,nkd->nk", q.vectors, q.items[negatives])
        if q.bias is not None:
            positive, negative = positive + q.bias[q.targets], negative + q.bias[negatives]
        dtype = torch.promote_types(positive.dtype, torch.float32)
        return positive.to(dtype), negative.to(dtype)


class SampledSoftmax(SampledLoss):
    """Softmax over the target and sampled negatives, optionally corrected for how they were sampled.

    Args:
        negatives: negatives for each query.
        shared: draw one set for the whole batch.
        sampling: `uniform`, or by `popularity` in the training data.
        logq: subtract the log of the expected count of each negative, so that the loss approaches the
            full cross-entropy (Bengio and Senecal 2008; Yi et al. 2019). A negative equal to the target
            is left out.
    """

    log_share: Tensor

    def __init__(
        self,
        negatives: int = 256,
        shared: bool = True,
        sampling: Literal["uniform", "popularity"] = "uniform",
        logq: bool = True,
    ) -> None:
        super().__init__(negatives, shared)
        self.sampling, self.logq = sampling, logq
        self.register_buffer("log_share", torch.empty(0), persistent=False)  # (V + 1,)

    def fit(self, interactions: Interactions) -> None:
        counts = interactions.item_counts().double()
        if self.sampling == "uniform":
            counts = torch.ones_like(counts)
        counts[0] = 0
        self.log_share = (counts / counts.sum()).log().float()

    def draw(self, q: Queries) -> Tensor:
        if self.sampling == "uniform":
            return super().draw(q)
        rows = 1 if self.shared else q.vectors.shape[0]
        if not rows:
            return super().draw(q)
        drawn = torch.multinomial(self.log_share.exp(), rows * self.negatives, replacement=True)
        return drawn.view(rows, self.negatives)

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        q = queries(recommender, batch, self)
        chosen = self.draw(q)
        positive, negative = self.scores(q, chosen)
        if self.logq:
            negative = negative - (self.log_share[chosen] + torch.tensor(float(self.negatives)).log())
        negative = negative.masked_fill(chosen == q.targets[:, None], float("-inf"))
        everything = torch.cat([positive[:, None], negative], 1)
        return mean_of(everything.logsumexp(1) - positive)


class BPR(SampledLoss):
    """-log sigmoid(target - negative), Rendle et al. 2009; negatives are never positives of the user.

    Args:
        negatives: negatives for each query.
        shared: draw one set for the whole batch, from all items.
        l2: weight of .5 (|u|^2 + |i|^2 + |j|^2) per query on the rows the recommender trains
            (LightGCN: its layer 0), averaged over the queries.
    """

    def __init__(self, negatives: int = 1, shared: bool = False, l2: float = 0.0) -> None:
        super().__init__(negatives, shared)
        self.l2 = l2

    def draw(self, q: Queries) -> Tensor:
        return self.draw_unseen(q)

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        q = queries(recommender, batch, self)
        chosen = self.draw(q)
        positive, negative = self.scores(q, chosen)
        loss = bpr(positive, negative)
        return loss + self.l2 * self.penalty(recommender, q, chosen) if self.l2 else loss

    def penalty(self, recommender: Recommender, q: Queries, chosen: Tensor) -> Tensor:
        """.5 (|u|^2 + |i|^2 + sum |j|^2) on the trained rows, averaged over the queries."""
        assert isinstance(recommender, VectorRecommender)
        items = torch.cat([q.targets, chosen.expand(len(q.targets), -1).flatten()])
        user_rows, item_rows = recommender.initial_vectors(q.users, items)
        return 0.5 * (user_rows.square().sum() + item_rows.square().sum()) / max(1, len(q.targets))


class BCE(SampledLoss):
    """Binary cross-entropy of the target against sampled negatives, averaged over all of them.

    With one negative that the user never had it is the loss of SASRec (Kang and McAuley, ICDM 2018) halved: the paper
    adds the two terms and does not average them.

    Args:
        negatives: negatives for each query.
        shared: draw one set for the whole batch, from all items.
        unseen: draw items that the query's user has not had in training, as the paper does; else from all items, as
            the replications with many negatives do.
    """

    def __init__(self, negatives: int = 1, shared: bool = False, unseen: bool = False) -> None:
        super().__init__(negatives, shared)
        if unseen and shared:
            raise RecloomError(
                "BCE cannot draw one set of negatives for all users (shared) that none of them had (unseen). "
                "Choose one of the two."
            )
        self.unseen = unseen

    def draw(self, q: Queries) -> Tensor:
        return self.draw_unseen(q) if self.unseen else super().draw(q)

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        q = queries(recommender, batch, self)
        return bce(*self.scores(q, self.draw(q)))


class GBCE(SampledLoss):
    """Generalised binary cross-entropy of gSASRec (Petrov and Macdonald 2023): calibrated under sampling.

    Args:
        negatives: negatives for each query.
        calibration: t in [0, 1]; 0 is plain BCE, 1 gives calibrated probabilities.
        shared: draw one set for the whole batch.
    """

    def __init__(self, negatives: int = 256, calibration: float = 0.75, shared: bool = False) -> None:
        super().__init__(negatives, shared)
        if not 0 <= calibration <= 1:
            raise RecloomError(f"GBCE needs calibration between 0 and 1, found {calibration}")
        self.calibration = calibration

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        q = queries(recommender, batch, self)
        beta = gbce_beta(self.negatives, q.items.shape[0] - 1, self.calibration)
        return gbce(*self.scores(q, self.draw(q)), beta)


class LogLoss(Loss):
    """Binary cross-entropy of (B, C) scores, read as logits, against (B, C) labels; padded candidates do not count."""

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        if not batch.labels.is_floating_point():
            raise RecloomError(
                "LogLoss compares scores with a label for each candidate, and the training rows of "
                f"{type(recommender).__name__} have none. Leave out --model.loss to use its own."
            )
        real = batch.candidates > 0
        return binary_cross_entropy_with_logits(recommender.score(batch)[real], batch.labels[real])


def own_loss(recommender: Recommender, beside: str) -> Loss:
    """The loss that the recommender asks for, to stand beside another one; RecloomError where it is training-free."""
    found = loss_of(recommender)
    if found is None:
        raise RecloomError(
            f"{beside} trains a recommender, and {type(recommender).__name__} is not trained. "
            "Choose one that is, such as SASRec, or name a loss with --model.loss.base."
        )
    return found


def loss_of(recommender: Recommender) -> Loss | None:
    """The loss that the recommender is trained with where none is asked for; None where it is training-free."""
    given = recommender.default_loss
    if given is None:
        return None
    found: Loss = build("register_losses", {"class_path": given} if isinstance(given, str) else given)
    return found


def queries(recommender: Recommender, batch: Batch, loss: Loss) -> Queries:
    """The training queries of a VectorRecommender; anything else is a RecloomError."""
    if not isinstance(recommender, VectorRecommender):
        raise RecloomError(
            f"{type(loss).__name__} trains recommenders that score by inner product; "
            f"{type(recommender).__name__} does not. Leave out --model.loss to use its own."
        )
    return recommender.training_queries(batch)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of softplus(negative - positive); positive (N,), negative (N, n)."""
    return mean_of(softplus(negative - positive[:, None]))


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """-(log s(p) + sum log(1 - s(n))) / (1 + n), averaged over queries; positive (N,), negative (N, n)."""
    return mean_of(softplus(-positive) + softplus(negative).sum(1)) / (1 + negative.shape[1])


def gbce_beta(negatives: int, num_items: int, calibration: float) -> float:
    """The exponent of gBCE: 1 - t (1 - a), with the sampling rate a = negatives / (num_items - 1), at most 1."""
    rate = min(1.0, negatives / max(1, num_items - 1))
    return 1 - calibration * (1 - rate)


def gbce(positive: Tensor, negative: Tensor, beta: float) -> Tensor:
    """-(beta log s(p) + sum log(1 - s(n))) / (1 + n), averaged over queries.

    beta * logsigmoid(p) is finite for every finite score, so no transformed logit is needed.
    """
    return mean_of(-beta * logsigmoid(positive) + softplus(negative).sum(1)) / (1 + negative.shape[1])


def mean_of(values: Tensor) -> Tensor:
    """Their mean; 0 where there is none, as in a batch without a target."""
    return values.mean() if values.numel() else values.sum()


def core_losses() -> list[type[Loss]]:
    """The losses of core, for the hook."""
    return [CrossEntropy, SampledSoftmax, BPR, BCE, GBCE, LogLoss]
