"""`MetricAccumulator`: from batches of scores to metrics, per request and over all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import RecloomError
from . import bootstrap_weights, functional
from .metric import ItemFacts, Metric, parse_metric
from .segments import OF_REQUESTS

FEW_TARGETS = 3
"""Up to so many targets per row, counting every rank is cheaper than finding the largest scores; measured."""


class MetricAccumulator:
    """Gathers batches, then gives each metric as one number and per request.

    names such as ["ndcg@10", "mrr", "coverage@10"]; metrics by name, as `plugins.collect("register_metrics")`
    returns them; facts are needed by metrics of recommended lists only. segments: name to (num_items + 1,)
    bool; each metric of ranks is also kept as `ndcg@10/name`, where only the relevant items of the segment count
    as relevant, ranked among all candidates as they are. A request without one of them has no value there.
    Where `update` is told which requests are new and some are, metrics of ranks and of pairs are also kept as
    `ndcg@10/known` and `ndcg@10/new`; one over all pairs, such as `auc/new`, is then over the pairs of these requests.
    """

    def __init__(
        self,
        names: Iterable[str],
        metrics: Mapping[str, Any],
        facts: ItemFacts | None = None,
        segments: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.asked = {name: parse_metric(name, metrics) for name in names}
        self.facts, self.segments = facts, dict(segments or {})
        asked = list(self.asked.values())
        cutoffs = [k for metric, k in asked if metric.needs == "ranks"]
        self._depth = None if None in cutoffs else max((k or 0 for k in cutoffs), default=0)
        self._list = max((k or 0 for metric, k in asked if metric.needs == "top"), default=0)
        self._keeps_lists = any(metric.needs == "top" and not metric.per_request for metric, _ in asked)
        self._pairs = [name for name, (metric, _) in self.asked.items() if metric.needs == "scores"]
        self._check_facts()
        self.reset()

    @property
    def longest(self) -> int:
        """How long a list must be for every metric asked for. RecloomError where one has no cutoff."""
        endless = [name for name, (metric, k) in self.asked.items() if k is None and metric.needs == "ranks"]
        if endless:
            raise RecloomError(
                f"metric {endless[0]!r} reads the rank of every item, and this recommender makes lists. "
                f"Name a length, such as {endless[0]}@10."
            )
        return max(self._depth or 0, self._list, 1)

    def reset(self) -> None:
        """Forget every batch."""
        self._state: dict[str, list[Tensor]] = {}
        self._requests = 0

    def update(
        self,
        scores: Tensor,
        targets: Tensor | None = None,
        candidates: Tensor | None = None,
        labels: Tensor | None = None,
        users: Tensor | None = None,
        new: Tensor | None = None,
    ) -> None:
        """Take one batch of requests.

        scores (B, C) float, -inf where an item is masked. What is relevant comes as targets (B, T) int64
        columns, -1 padded, or as labels (B, C), relevant above 0. candidates (C,), (1, C) or (B, C) are the
        item ids of the columns, 0 for padding. users (B,) are int64 indices; without them each request is a
        user of its own. new (B,) bool: requests without a history; given always or never.
        """
        if (targets is None) == (labels is None):
            raise RecloomError(
                "MetricAccumulator.update: expected either targets or labels, found both or neither."
            )
        ids = None if candidates is None else candidates.reshape(-1, scores.shape[1])  # (1 or B, C)
        if ids is not None and (ids == 0).any():
            scores = scores.masked_fill(ids == 0, -torch.inf)
        if self._pairs:
            self._add_pairs(scores, ids, labels)
        if targets is None:
            assert labels is not None
            targets = _columns((labels > 0) & (True if ids is None else ids != 0))
        elif not targets.shape[1]:
            targets = targets.new_full((len(scores), 1), -1)
        if len(self._pairs) < len(self.asked):
            self._add_ranking(scores, targets, ids)
        self._add_requests(scores, users, new)

    def update_ranks(
        self, ranks: Tensor, items: Tensor, users: Tensor | None = None, new: Tensor | None = None
    ) -> None:
        """Take one batch of requests of which the ranks are known; for metrics of ranks alone.

        ranks (B, T) as `functional.ranks` gives them, of the relevant items (B, T), 0 padded; the rest as for `update`.
        """
        self._add_ranks(self._within(ranks, items))
        self._add_requests(ranks, users, new)

    def _add_requests(self, rows: Tensor, users: Tensor | None, new: Tensor | None) -> None:
        self._add("users", torch.full((len(rows),), -1, device=rows.device) if users is None else users)
        if new is not None:
            self._add("new", new)
        self._requests += len(rows)

    @property
    def without_history(self) -> int | None:
        """How many requests are new; None where `update` was not told."""
        return int(self._whole("new").sum()) if "new" in self._state else None

    @property
    def users(self) -> np.ndarray:
        """(R,) int64: the user of each request, in the order of `per_user`."""
        given = self._whole("users")
        return torch.where(given < 0, torch.arange(len(given), device=given.device), given).cpu().numpy()

    def per_user(self) -> dict[str, np.ndarray]:
        """Metric to (R,) float64 values, NaN where undefined; metrics over all requests are left out."""
        values: dict[str, np.ndarray] = {}
        for name, (metric, _) in self.asked.items():
            if metric.per_request and metric.needs != "scores":
                columns = self._whole(name).cpu().numpy().reshape(self._requests, -1).T
                values |= dict(zip([name, *self._of_items(name)], columns, strict=True))
            elif metric.per_request:
                pairs = (self._whole(part) for part in ("scores", "labels", "requests"))
                values[name] = metric.function(*pairs, self._requests).cpu().numpy()
        for name in self.asked:
            if name in values and (apart := self._of_requests(name)):
                new = self._whole("new").cpu().numpy()
                values |= {
                    kept: np.where(new == which, values[name], np.nan)
                    for kept, which in zip(apart, (False, True), strict=True)
                }
        return values

    def compute(self) -> dict[str, float]:
        """Metric to one number: the mean over the requests for which it is defined, NaN if there are none."""
        rows, whole = self.per_user(), self._over_all()
        names = [kept for name in self.asked for kept in self._kept(name)]
        return {name: _mean(rows[name]) if name in rows else whole[name] for name in names}

    def of_draws(self) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        """Metric over all pairs to a function from (D, U) to (D,): its values where users are drawn so often.

        U are the different users, those without an id each of their own. Metrics of lists over all requests have
        none: users who are drawn twice recommend no more items, so every draw would lie on one side of the truth.
        """
        asked = {name: metric.of_draws for name, (metric, _) in self.asked.items() if metric.of_draws}
        if not asked:
            return {}
        users = torch.from_numpy(np.unique(self.users, return_inverse=True)[1])  # (R,), 0 to U - 1
        return {
            kept: _in_numpy(make(scores.cpu(), labels.cpu(), users[requests.cpu()]))
            for name, make in asked.items()
            for kept, (scores, labels, requests) in self._pairs_of(name).items()
        }

    def state(self) -> dict[str, Tensor]:
        """Everything gathered so far as flat tensors, to be sent to another process and merged there."""
        return {name: self._whole(name) for name in self._state}

    def merge(self, state: Mapping[str, Tensor]) -> None:
        """Append what another meter of the same metrics gathered, after the requests already here."""
        for name, part in state.items():
            self._add(name, part + self._requests if name == "requests" else part)
        self._requests += len(state["users"]) if "users" in state else 0

    @property
    def lower_is_better(self) -> set[str]:
        """The metrics asked for in which the smaller number is the better one."""
        worse = (name for name, (metric, _) in self.asked.items() if not metric.higher_is_better)
        return {kept for name in worse for kept in self._kept(name)}

    def _kept(self, name: str) -> list[str]:
        """The names under which the values of a metric are kept: its own, and one for each segment."""
        return [name, *self._of_requests(name), *self._of_items(name)]

    def _of_items(self, name: str) -> list[str]:
        metric, _ = self.asked[name]
        ranked = metric.per_request and metric.needs == "ranks"
        return [f"{name}/{segment}" for segment in (self.segments if ranked else ())]

    def _of_requests(self, name: str) -> list[str]:
        metric, _ = self.asked[name]
        measured = metric.needs != "top" and (metric.per_request or metric.needs == "scores")
        return [f"{name}/{segment}" for segment in OF_REQUESTS] if measured and self.without_history else []

    def _pairs_of(self, name: str) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Name to the (N,) scores, labels and requests that a metric over all pairs is of, all of them and apart."""
        whole = self._whole("scores"), self._whole("labels"), self._whole("requests")
        found = {name: whole}
        if apart := self._of_requests(name):
            new = self._whole("new")[whole[2]]
            found |= {
                kept: (whole[0][mine], whole[1][mine], whole[2][mine])
                for kept, mine in zip(apart, (~new, new), strict=True)
            }
        return found

    def _over_all(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, (metric, k) in self.asked.items():
            if metric.per_request:
                continue
            if metric.needs == "top":
                found[name] = float(metric.function(self._whole("top")[:, :k].long(), self._fact(metric)))
                continue
            for kept, (scores, labels, requests) in self._pairs_of(name).items():
                users = torch.from_numpy(self.users).to(requests.device)[requests]
                found[kept] = float(metric.function(scores, labels, users))
        return found

    def _add_ranking(self, scores: Tensor, targets: Tensor, ids: Tensor | None) -> None:
        ranks, columns = self._rank(scores, targets)
        top = self._item_ids(columns, ids) if self._list else columns
        if self._keeps_lists:
            self._add("top", top.int())
        self._add_ranks(self._by_segment(ranks, targets, ids))
        for name, (metric, k) in self.asked.items():
            if metric.per_request and metric.needs == "top":
                self._add(name, metric.function(top[:, :k], self._fact(metric)))

    def _add_ranks(self, ranks: Tensor) -> None:
        """Metrics of (B, 1 + S, T) ranks."""
        kinds, kind = _kinds(ranks, self._depth)
        for name, (metric, k) in self.asked.items():
            if metric.per_request and metric.needs == "ranks":
                self._add(name, metric.function(kinds, k)[kind])  # (B, 1 + S)

    def _rank(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Ranks, and the columns of the top lists (B, longest list asked for), -1 where a list is shorter."""
        if not self._list and (self._depth is None or targets.shape[1] <= FEW_TARGETS):
            return functional.ranks(scores, targets), targets[:, :0]
        longest = max(self._list, (self._depth or 0) + 1)
        values, columns = functional.first_k(scores, longest)  # the lists that are recommended
        if self._depth is None or scores.isnan().any():
            ranks = functional.ranks(scores, targets)
        else:
            depth = self._depth
            ranks = functional.ranks_within(scores, targets, values[:, : depth + 1])
        return ranks, columns.masked_fill(values == -torch.inf, -1)[:, : self._list]

    def _by_segment(self, ranks: Tensor, targets: Tensor, ids: Tensor | None) -> Tensor:
        """As `_within`, of the columns of the relevant items."""
        if not self.segments:
            return ranks[:, None]
        if ids is None:
            raise RecloomError(
                "MetricAccumulator.update: expected candidates, the item ids of the columns, found none; "
                "segments need them."
            )
        return self._within(ranks, ids.expand(len(targets), -1).gather(1, targets.clamp_min(0)))

    def _within(self, ranks: Tensor, items: Tensor) -> Tensor:
        """(B, 1 + S, T) ranks: all of them, then those of each segment with 0 where a (B, T) item is not in it."""
        if not self.segments:
            return ranks[:, None]
        within = torch.stack([member.to(items.device)[items] for member in self.segments.values()], 1)
        return torch.cat([ranks[:, None], ranks[:, None] * within], 1)

    def _add_pairs(self, scores: Tensor, ids: Tensor | None, labels: Tensor | None) -> None:
        if labels is None:
            raise RecloomError(
                f"{', '.join(self._pairs)} need candidates with a label each, found held-out items among candidates "
                "without labels. Use --data.candidates impressions where the data have them, or leave them out."
            )
        there = torch.ones_like(scores, dtype=torch.bool) if ids is None else (ids != 0).expand_as(scores)
        self._add("scores", scores[there])
        self._add("labels", labels[there])
        self._add("requests", there.nonzero()[:, 0] + self._requests)

    def _item_ids(self, columns: Tensor, ids: Tensor | None) -> Tensor:
        if ids is None:
            raise RecloomError(
                "MetricAccumulator.update: expected candidates, the item ids of the columns, found none; "
                "metrics of recommended lists need them."
            )
        found = ids.expand(len(columns), -1).gather(1, columns.clamp_min(0)).masked_fill(columns < 0, 0)
        return pad(found, (0, self._list - found.shape[1])).cpu()  # (B, K), where ItemFacts lie

    def _fact(self, metric: Metric) -> Tensor | int:
        found: Tensor | int | None = None if self.facts is None else getattr(self.facts, metric.fact)
        assert found is not None  # checked when the meter was built
        return found

    def _check_facts(self) -> None:
        for name, (metric, _) in self.asked.items():
            if metric.needs == "top" and (self.facts is None or getattr(self.facts, metric.fact) is None):
                raise RecloomError(
                    f"metric {name!r}: expected ItemFacts with {metric.fact}, found none; "
                    "give it to the MetricAccumulator, or leave the metric out."
                )

    def _add(self, name: str, part: Tensor) -> None:
        self._state.setdefault(name, []).append(part)

    def _whole(self, name: str) -> Tensor:
        if name not in self._state:
            raise RecloomError(
                "MetricAccumulator: expected at least one batch, found none; call update first."
            )
        if len(self._state[name]) > 1:
            self._state[name] = [torch.cat(self._state[name])]
        return self._state[name][0]


def _kinds(ranks: Tensor, depth: int | None) -> tuple[Tensor, Tensor]:
    """From (B, S, T) ranks to (M, T) rows and (B, S), which of the rows has the value of each down to `depth`.

    What misses every one of its n relevant items is one kind of row for each n, and most requests are of it.
    """
    width, last = ranks.shape[2], functional.MISSED - 1 if depth is None else depth
    there = ranks > 0
    kind = there.sum(2)
    found = (there & (ranks <= last)).any(2)
    rows = ranks[found]
    kind[found] = torch.arange(width + 1, width + 1 + len(rows), device=ranks.device)
    places = torch.arange(width + 1, device=ranks.device)
    misses = torch.where(places[:width] < places[:, None], functional.MISSED, 0)  # (T + 1, T)
    return torch.cat([misses, rows]), kind


def _columns(relevant: Tensor) -> Tensor:
    """From (B, C) marks to the marked columns (B, T), T at least 1, -1 padded."""
    counts = relevant.sum(1)
    rows, columns = relevant.nonzero(as_tuple=True)
    place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    width = max(1, int(counts.max())) if len(counts) else 1
    found = torch.full((len(counts), width), -1, device=rows.device)
    found[rows, place] = columns
    return found


def _in_numpy(function: bootstrap_weights.OfDraws) -> Callable[[np.ndarray], np.ndarray]:
    return lambda weights: function(torch.from_numpy(weights)).numpy()


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
