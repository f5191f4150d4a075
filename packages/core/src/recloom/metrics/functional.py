"""Ranks, and every metric as a pure function on tensors.

A rank is 1-based and pessimistic: a relevant item stands behind every candidate of the same score that is not
relevant. `0` marks padding, `MISSED` a relevant item that is not ranked at all (its score is -inf or NaN).

Three kinds of metric, all in float64:
of ranks (B, T) and a cutoff k (None: the whole list), to (B,), NaN where the user has no relevant item;
of top lists (B, K) of item ids, 0 where a list is shorter, to (B,) or, for coverage and gini, to a scalar;
of labelled scores (N,), relevant where the label is above 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import RecloomError

MISSED = 2**31 - 1
MAX_PASSES = 8
"""Up to so many targets per row, one pass over the scores for each beats sorting the row."""
FAN = 8
"""How many columns `top_k` reduces to their maximum at a time; 4 to 16 are about as fast."""
SURE = 1e-7
"""How near to 0 and 1 a chance may come in the log loss."""


def ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """Rank the relevant items of each row among all candidates.

    scores (B, C) float, -inf where a candidate does not exist; targets (B, T) int64 columns of the relevant
    items, distinct within a row, -1 padded. Returns (B, T) int64. A candidate whose score is NaN stands ahead
    of every relevant item, and a relevant item whose score is NaN or -inf is MISSED: neither ever helps.
    """
    own, valid = _own_scores(scores, targets)
    ahead = scores.shape[1] - count_less(scores.detach(), own)  # (B, T), NaN counts as ahead
    return assembled(ahead, own, valid)


def ranks_within(scores: Tensor, targets: Tensor, values: Tensor) -> Tensor:
    """Ranks as `ranks` gives them, from the `depth + 1` largest scores of each row; deeper ranks are MISSED.

    values (B, depth + 1) descending and free of NaN, from `top_k(scores, depth + 1)`. The cost does not grow
    with the number of targets; only rows in which two targets have the last value are counted in full.
    """
    if values.shape[1] >= scores.shape[1]:
        return ranks(scores, targets)
    own, valid = _own_scores(scores, targets)
    values = values.to(own.dtype)
    depth, last = values.shape[1] - 1, values[:, -1:]
    ahead = torch.searchsorted(-values, -own, right=True)
    found = assembled(ahead, own, valid)
    found.masked_fill_(valid & (own <= last), MISSED)
    tied = (valid & (own == last) & (own > -torch.inf)).sum(1) > 1
    if tied.any():
        found[tied] = ranks(scores[tied], targets[tied])
    return found.masked_fill_(found > depth, MISSED)


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` (at most C) largest scores of each row, descending, and their columns: as torch.topk, faster.

    The k largest of a row lie in the k blocks with the largest maxima, so most columns are read just once.
    NaN comes first, as in torch.topk.
    """
    scores = scores.detach()
    columns = _top_columns(scores, k)
    values, order = scores.gather(1, columns).sort(dim=1, descending=True)
    return values, columns.gather(1, order)


def first_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` (at most C) best of each row and their columns, best first; equal scores in column order, NaN as -inf.

    Unlike with torch.topk the list for k begins with the list for every smaller k: this is the list that is
    recommended, predicted, and measured by metrics of lists.
    """
    k = min(k, scores.shape[1])
    values, columns = top_k(scores, k)
    if k and values[:, 0].isnan().any():
        return first_k(scores.masked_fill(scores.isnan(), -torch.inf), k)
    columns, order = columns.sort(dim=1)
    values = values.gather(1, order)
    if k:  # which of the equal scores at the end came in was up to top_k
        last = values.amin(1, keepdim=True)
        cut = (scores >= last).sum(1) > k
        if cut.any():
            columns[cut] = _first_columns(scores[cut], last[cut], k)
            values[cut] = scores[cut].gather(1, columns[cut])
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def _first_columns(scores: Tensor, last: Tensor, k: int) -> Tensor:
    """(B, k) columns, ascending, of the scores above (B, 1) `last` and of the first that equal it."""
    above, equal = scores > last, scores == last
    room = k - above.sum(1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
    return chosen.nonzero()[:, 1].view(len(scores), k)


def recall(ranks: Tensor, k: int | None) -> Tensor:
    """Share of the relevant items among the first k."""
    return _hits(ranks, k).sum(1) / _relevant(ranks)


def precision(ranks: Tensor, k: int) -> Tensor:
    """Share of the first k places that hold a relevant item."""
    return _defined(_hits(ranks, k).sum(1, dtype=torch.float64) / k, ranks)


def hit(ranks: Tensor, k: int | None) -> Tensor:
    """1 if any relevant item is among the first k."""
    return _defined(_hits(ranks, k).any(1).double(), ranks)


def ndcg(ranks: Tensor, k: int | None) -> Tensor:
    """DCG over that of min(relevant, k) items at the top, with gains 0 and 1 (Järvelin, Kekäläinen 2002)."""
    gains = _hits(ranks, k) / torch.log2(ranks.double() + 1).clamp_min(1)
    relevant = (ranks > 0).sum(1)
    places = torch.arange(2, ranks.shape[1] + 2, dtype=torch.float64, device=ranks.device)
    ideal = torch.cat([places.new_zeros(1), (1 / torch.log2(places)).cumsum(0)])  # (T + 1,)
    return gains.sum(1) / ideal[relevant if k is None else relevant.clamp_max(k)]


def mrr(ranks: Tensor, k: int | None) -> Tensor:
    """One over the rank of the first relevant item; 0 if it is beyond k."""
    return _defined(torch.where(_hits(ranks, k), 1 / ranks.double(), 0.0).amax(1), ranks)


def average_precision(ranks: Tensor, k: int | None) -> Tensor:
    """Sum of the precision at each relevant item among the first k, over min(number of relevant items, k)."""
    ordered = sorted_rows(torch.where(ranks > 0, ranks, MISSED))
    place = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    gains = torch.where(_hits(ordered, k), place / ordered.double(), 0.0).sum(1)
    relevant = _relevant(ranks)
    return gains / (relevant if k is None else relevant.clamp_max(k))


def impression_mrr(ranks: Tensor, k: int | None) -> Tensor:
    """The MRR of the MIND benchmark: the sum of 1/rank over the relevant items, by their number."""
    return torch.where(_hits(ranks, k), 1 / ranks.double(), 0.0).sum(1) / _relevant(ranks)


def coverage(top: Tensor, num_items: int) -> Tensor:
    """Share of the catalogue that is recommended to anybody."""
    return (torch.bincount(top[top > 0], minlength=num_items + 1) > 0).sum(dtype=torch.float64) / num_items


def gini(top: Tensor, num_items: int) -> Tensor:
    """Gini coefficient of how often each catalogue item is recommended: 0 all alike, towards 1 a few only."""
    counts = torch.bincount(top[top > 0], minlength=num_items + 1)[1:].sort().values.double()
    place = torch.arange(1, num_items + 1, dtype=torch.float64, device=top.device)
    return ((2 * place - num_items - 1) * counts).sum() / (num_items * counts.sum())


def novelty(top: Tensor, popularity: Tensor) -> Tensor:
    """Mean surprise -log2(p) in bits, p the item's share of the training interactions.

    popularity (num_items + 1,) counts; an item that never occurs in training counts as seen once. The self-information
    of Zhou et al. 2010 (PNAS 107, 4511) takes the share of users instead, log2(users / count): it is less by
    log2(interactions / users) for every item, which changes no comparison on one dataset.
    """
    share = popularity[top].double().clamp_min(1) / popularity.sum()
    return _list_mean(-share.log2(), top)


def popularity_bias(top: Tensor, popularity: Tensor) -> Tensor:
    """How popular recommended items are, relative to what people consume: 1 is alike, 2 twice as popular.

    The mean training count of a user's recommended items, over the mean training count of the item of a
    training interaction: 1 + the popularity lift of Abdollahpouri et al. 2019, profiles pooled over users.
    """
    consumed = popularity.double().square().sum() / popularity.sum()
    return _list_mean(popularity[top].double(), top) / consumed


def diversity(top: Tensor, vectors: Tensor) -> Tensor:
    """Mean of 1 - cosine over the pairs of a list (Ziegler et al. 2005); NaN below two items.

    vectors (num_items + 1, D). An item with the vector 0 has cosine 0 with every other.
    """
    unit = torch.nn.functional.normalize(vectors.double()[top], dim=2) * (top > 0)[:, :, None]  # (B, K, D)
    size = (top > 0).sum(1).double()
    same = unit.sum(1).square().sum(1) - unit.square().sum((1, 2))  # cosines of the ordered pairs
    return 1 - same / (size * (size - 1)).masked_fill(size < 2, torch.nan)


def category_diversity(top: Tensor, categories: Tensor) -> Tensor:
    """Share of the pairs of a list whose categories (num_items + 1,) differ; NaN below two items."""
    kinds, there = categories[top], top > 0
    pairs = (there[:, :, None] & there[:, None, :]).triu(1)
    differ = (kinds[:, :, None] != kinds[:, None, :]) & pairs
    return differ.sum((1, 2)) / pairs.sum((1, 2), dtype=torch.float64).masked_fill(
        ~pairs.any(2).any(1), torch.nan
    )


def auc(scores: Tensor, labels: Tensor) -> Tensor:
    """Chance that a relevant pair scores above one that is not, ties one half; NaN with one class only.

    scores and labels (N,). A NaN score loses against everything.
    """
    return grouped_auc(scores, labels, torch.zeros_like(labels, dtype=torch.int64), 1)


def gauc(scores: Tensor, labels: Tensor, users: Tensor) -> Tensor:
    """AUC within each user, averaged with the user's number of pairs as weight; one-class users are skipped.

    Source: Zhu et al. 2017. scores, labels and users (N,); users are any int64 ids.
    """
    group: Tensor = torch.unique(users, return_inverse=True)[1]
    size = torch.bincount(group).double()
    per_user = grouped_auc(scores, labels, group, len(size))
    known = ~per_user.isnan()
    return (per_user * size)[known].sum() / size[known].sum()


def grouped_auc(scores: Tensor, labels: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """AUC (num_groups,) of (N,) pairs within each group 0, 1, ...; NaN where a class is missing."""
    relevant = labels > 0
    scores = losing(scores, relevant)
    order = scores.argsort()
    order = order[group[order].argsort(stable=True)]  # by group, then by rising score
    scores, relevant, group = scores[order], relevant[order], group[order]
    positives, negatives = (_group_sum(kind.double(), group, num_groups) for kind in (relevant, ~relevant))
    before = torch.cat([negatives.new_zeros(1), (~relevant).cumsum(0).double()])  # (N + 1,)
    changes = (scores[1:] != scores[:-1]) | (group[1:] != group[:-1])
    level = torch.cat([changes.new_zeros(min(1, len(order))), changes]).cumsum(0)  # ties share a level
    start = torch.searchsorted(level, level)
    end = torch.searchsorted(level, level, right=True)
    outscored = (before[start] + before[end]) / 2 - (negatives.cumsum(0) - negatives)[group]
    return _group_sum(outscored * relevant, group, num_groups) / (positives * negatives)


def losing(scores: Tensor, relevant: Tensor) -> Tensor:
    """Scores (N,) in which NaN loses against everything: -inf where relevant, else inf."""
    worst = torch.where(relevant, -torch.inf, torch.inf).to(scores.dtype)
    return torch.where(scores.isnan(), worst, scores)


def log_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross entropy, in nats, of labels under sigmoid(scores) clamped to [SURE, 1 - SURE]."""
    chance = scores.double().sigmoid().clamp(SURE, 1 - SURE)
    return -(labels * chance.log() + (1 - labels) * (-chance).log1p()).mean()


def _group_sum(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    return values.new_zeros(num_groups).index_add_(0, group, values)


def _list_mean(values: Tensor, top: Tensor) -> Tensor:
    there = top > 0
    return torch.where(there, values, 0.0).sum(1) / there.sum(1, dtype=torch.float64)


def _hits(ranks: Tensor, k: int | None) -> Tensor:
    return (ranks > 0) & (ranks <= (MISSED - 1 if k is None else k))


def _relevant(ranks: Tensor) -> Tensor:
    return (ranks > 0).sum(1, dtype=torch.float64)


def _defined(values: Tensor, ranks: Tensor) -> Tensor:
    return values.masked_fill(~(ranks > 0).any(1), torch.nan)


def _top_columns(scores: Tensor, k: int) -> Tensor:
    """The columns (B, k) of the largest scores, in no order."""
    columns = scores.shape[1]
    if columns < 4 * FAN * max(k, 1):
        return _largest(scores, min(k, columns))
    blocks = columns // FAN  # block b holds the columns b, b + blocks, b + 2 * blocks, ...
    head = blocks * FAN
    best = _top_columns(scores[:, :head].view(len(scores), FAN, blocks).amax(1), k)  # (B, k)
    offsets = torch.arange(0, head, blocks, device=scores.device)
    tail = torch.arange(head, columns, device=scores.device).expand(len(scores), -1)
    pool = torch.cat([(best[:, :, None] + offsets).flatten(1), tail], 1)  # (B, k * FAN + tail)
    return pool.gather(1, _largest(scores.gather(1, pool), k))


def _largest(scores: Tensor, k: int) -> Tensor:
    """As `_top_columns`, by partition; numpy's is vectorised, up to 4 times as fast as torch.topk."""
    if scores.device.type != "cpu":
        return scores.topk(k, sorted=False).indices
    if k in (0, scores.shape[1]):
        return torch.arange(k).expand(len(scores), -1)
    rest = scores.shape[1] - k
    order = np.argpartition(_full_precision(scores).numpy(), rest, axis=1)  # NaN last
    return torch.from_numpy(order[:, rest:])


def _full_precision(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _own_scores(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The relevant items' own scores (B, T), and which entries are not padding."""
    if scores.dim() != 2 or targets.dim() != 2 or len(scores) != len(targets):
        raise RecloomError(
            f"ranks: expected scores (B, C) and targets (B, T), found {tuple(scores.shape)} and "
            f"{tuple(targets.shape)}. Give every row of scores its row of relevant columns, padded with -1."
        )
    if targets.shape[1] > 1 and (twice := _repeats(sorted_rows(targets), 0)).any():
        row = int(twice.nonzero()[0])
        raise RecloomError(
            f"ranks: expected distinct columns in row {row} of targets, found {targets[row].tolist()}. "
            "A relevant item counts once; remove repeated items before evaluation."
        )
    own = scores.detach().gather(1, targets.clamp_min(0))
    return _full_precision(own), targets >= 0


def assembled(ahead: Tensor, own: Tensor, valid: Tensor) -> Tensor:
    """From the number of candidates that score no less than each target, itself included, to ranks."""
    exists = valid & (own > -torch.inf)  # False for NaN
    if own.shape[1] > 1:
        ahead = ahead - _wrongly_ahead(own, valid, exists)
    return torch.where(exists, ahead, MISSED).masked_fill_(~valid, 0)


def _wrongly_ahead(own: Tensor, valid: Tensor, exists: Tensor) -> Tensor:
    """Relevant items that `ahead` counts and that are no better: NaN, or tied and later in the row."""
    later = (own.isnan() & valid).sum(1, keepdim=True).expand(own.shape)
    key = own.masked_fill(~exists, -torch.inf)
    tied = _repeats(sorted_rows(key), torch.finfo(key.dtype).min)
    if not tied.any():
        return later
    rising, order = key[tied].sort(dim=1, stable=True)
    place = torch.arange(1, own.shape[1] + 1, device=own.device)
    after = torch.searchsorted(rising, rising, right=True) - place
    later = later.clone()
    later[tied] += torch.empty_like(order).scatter_(1, order, after)
    return later


def _repeats(rising: Tensor, least: float) -> Tensor:
    """(B,): whether a sorted row holds a value of at least `least` twice."""
    return ((rising[:, 1:] == rising[:, :-1]) & (rising[:, 1:] >= least)).any(1)


def sorted_rows(values: Tensor) -> Tensor:
    """Each row sorted, NaN last. On the CPU numpy's vectorised sort is 20 times as fast as torch's."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def count_less(scores: Tensor, own: Tensor) -> Tensor:
    """(B, T): how many candidates of the row score less than each target, in blocks of bounded memory."""
    by_pass = own.shape[1] <= MAX_PASSES
    block = 2**17 if by_pass and scores.device.type == "cpu" else 2**22  # 2**17 float32 stay in cache
    rows = max(1, block // max(1, scores.shape[1]))
    count = _by_passes if by_pass else _by_sorting
    less = torch.zeros(own.shape, dtype=torch.int64, device=own.device)
    for i in range(0, len(scores), rows):
        less[i : i + rows] = count(scores[i : i + rows].to(own.dtype), own[i : i + rows])
    return less


def _by_passes(scores: Tensor, own: Tensor) -> Tensor:
    exact = torch.float32 if scores.shape[1] < 2**24 else torch.float64  # holds every count; sums fast
    less = torch.empty(scores.shape, dtype=exact, device=scores.device)
    return torch.stack([torch.lt(scores, column, out=less).sum(1) for column in own.T[:, :, None]], 1)


def _by_sorting(scores: Tensor, own: Tensor) -> Tensor:
    rising = sorted_rows(scores)
    if rising[:, -1].isnan().any():
        rising = rising.masked_fill(rising.isnan(), torch.inf)
    return torch.searchsorted(rising, own)  # of NaN targets the count is not used
