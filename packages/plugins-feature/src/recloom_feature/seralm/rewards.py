"""Rewards: how much each text of an item helps to predict the training data (SeRALM, reconstruction).

    r_ik = mean of log p(next | history) over the training positions whose history or target holds item i
           while item i has text k, minus the mean over the texts of item i

The texts of the other items are drawn from q. Every item tries each of its texts at the same positions and equally
often, so that the difficulty of a position cancels out of r exactly, as with a control variate per position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from recloom.batch import Batch
from recloom.data import repeated
from recloom.data.batches import SequenceRows
from recloom.errors import RecloomError
from recloom.nn import BLOCK
from recloom.progress import Progress
from recloom.recommender import Queries, Recommender, VectorRecommender
from torch import Tensor

from .variants import Variants, centred, reading, sample

ROWS = 256
"""Windows scored at once."""


@dataclass(frozen=True)
class Rewards:
    """Rewards of all texts of all items.

    Attributes:
        values: (num_items + 1, K) r_ik in nats, 0 for absent texts and items without positions.
        positions: (num_items + 1,) int64 training positions that hold the item.
    """

    values: Tensor
    positions: Tensor


@torch.no_grad()
def rewards(
    recommender: Recommender, windows: SequenceRows, variants: Variants, q: Tensor, draws: int, seed: int
) -> Rewards:
    """Rewards of all texts under a trained recommender.

    In each draw one half of the items tries its texts in turn, then the other half, while the rest have texts
    drawn from q: 2 K passes over the windows.

    Args:
        recommender: causal, and reads items by vector.
        windows: of the training interactions alone.
        q: (num_items + 1, K) by which the texts were drawn in training.
        draws: more of them, less noise.
    """
    check_causal(type(recommender))
    assert isinstance(recommender, VectorRecommender)
    recommender.eval()
    size, k = variants.exists.shape
    total, count = torch.zeros(2, size * k, dtype=torch.float64)
    random = torch.Generator().manual_seed(seed)
    with Progress("rewards", draws * 2 * k) as bar:
        for _ in range(draws):
            half, turn = torch.rand(size, generator=random) < 0.5, torch.rand(size, k, generator=random)
            turn = turn.argsort(1)  # each item's texts in an order of its own
            for tried in (half, ~half):
                for at in range(k):
                    theirs = turn[:, at]
                    judged = tried & variants.exists.gather(1, theirs[:, None])[:, 0]
                    choice = torch.where(judged, theirs, sample(q, random))
                    with reading(recommender, variants.pick(choice)):
                        _add(recommender, windows, judged, choice, k, total, count)
                    bar.advance(1, 0)
    mean = (total / count.clamp(min=1)).view(size, k)
    positions = count.view(size, k)[:, 0] / draws
    return Rewards(centred(mean, variants.exists).float(), positions.round().long())


def _add(
    recommender: VectorRecommender,
    windows: SequenceRows,
    judged: Tensor,
    choice: Tensor,
    k: int,
    total: Tensor,
    count: Tensor,
) -> None:
    """Add one pass over the windows to the sums and counts of the texts that are judged in it; both (size * k,)."""
    for rows in torch.split(torch.arange(len(windows)), ROWS):
        batch = windows[rows]
        items, sums, positions = credit(log_probabilities(recommender, batch), batch.history, batch.labels)
        mine = judged[items]
        place = items[mine] * k + choice[items[mine]]
        total.index_add_(0, place, sums[mine].double())
        count.index_add_(0, place, positions[mine].double())


def check_causal(kind: type[Recommender]) -> None:
    """Raise RecloomError for a class of recommenders that gives no rewards."""
    if not (issubclass(kind, VectorRecommender) and kind.causal):
        raise RecloomError(
            f"rewards need the probability of every next item, which a causal sequence model such as SASRec gives; "
            f"found {kind.__name__}"
        )


def log_probabilities(recommender: VectorRecommender, batch: Batch) -> Tensor:
    """(B, L) log p(label | history up to it) over the whole catalogue; 0 where there is no label."""
    rows = torch.arange(len(batch), device=batch.user.device)
    numbered = Batch.of(batch.history, user=rows, labels=batch.labels)  # so that a query carries its row
    q = recommender.training_queries(numbered)
    order = q.users.argsort(stable=True)
    real = batch.labels > 0
    if not torch.equal(q.targets[order], batch.labels[real]):
        raise RecloomError(
            f"{type(recommender).__name__} does not answer every position of a window in order, so that rewards "
            "cannot be separated. Use a causal sequence model, such as SASRec."
        )
    found = torch.zeros(batch.labels.shape, device=real.device)
    found[real] = target_log_probabilities(q)[order]
    return found


def target_log_probabilities(q: Queries) -> Tensor:
    """(N,) log softmax over items 1..V at the targets, in blocks of rows."""
    items = q.items[1:]
    parts = []
    for rows in torch.split(torch.arange(len(q.targets)), max(1, BLOCK // len(items))):
        logits = q.vectors[rows] @ items.T  # (R, V)
        if q.bias is not None:
            logits = logits + q.bias[1:]
        hit = logits.gather(1, q.targets[rows, None] - 1)[:, 0]
        parts.append(hit - logits.logsumexp(1))
    return torch.cat(parts) if parts else q.vectors.new_zeros(0)


def credit(log_p: Tensor, history: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Assign the positions of windows to items: items, sums of log p and numbers of positions, (M,) each.

    A position belongs to every item of its history and to its target, once. So an item that first occurs at
    place j of history and last label owns the positions from j - 1, where it is the target, to the end.

    Args:
        log_p: (B, L) at each position, 0 without a label.
        history, labels: (B, L) int64, padded on the left with 0.
    """
    real = (labels > 0).to(log_p.dtype)
    sequence = torch.cat([history, labels[:, -1:]], 1)  # (B, L + 1)
    first = ~repeated(sequence) & (sequence > 0)
    rest = log_p.flip(1).cumsum(1).flip(1)  # (B, L) sum from a position to the end
    count = real.flip(1).cumsum(1).flip(1)
    before = torch.arange(sequence.shape[1], device=history.device).sub(1).clamp(min=0)
    return sequence[first], rest[:, before][first], count[:, before][first]
