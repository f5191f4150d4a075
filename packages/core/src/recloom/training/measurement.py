"""What a validation or a test measures: batches of requests to ranks, and what metrics know of items."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..batch import Batch
from ..data.batches.module import RecDataModule
from ..data.catalog import Catalog
from ..data.id_order import hash_ranks
from ..llm import BatchPlanned, HashingNgrams
from ..metrics import ItemFacts, Metric
from ..metrics.accumulator import MetricAccumulator
from ..metrics.popularity_ranks import PopularityRanks
from ..metrics.segments import item_segments
from ..plugins import collect
from .ranking import (
    list_columns,
    mask_items,
    masked_items,
    retrieves,
    scores_of_lists,
    target_columns,
    without,
)

if TYPE_CHECKING:
    from .module import RecModule


class Measurement:
    """Metrics over the requests of one part of the data.

    Args:
        catalog: the items that the run knows.
        data: what is measured on.
        metrics: names such as ndcg@10.
        by_segment: whether each is also kept by segment of items.

    Attributes:
        meter: the metrics so far.
        masked_targets: held-out items that stand in the masked history, so that nothing can find them.
        floor: the same metrics of `Popularity` on the same requests, where they are kept by segment; None elsewhere.
            Its scores are training counts, no chances, so that metrics of chances are left out.
    """

    def __init__(
        self, catalog: Catalog, data: RecDataModule, metrics: Sequence[str], by_segment: bool
    ) -> None:
        counts = data.train.item_counts()
        counts = pad(counts, (0, catalog.num_items + 1 - len(counts)))  # items that came later: none
        self.num_items, self.masked_targets = data.num_items, 0
        facts = item_facts(catalog, counts, data.num_items, metrics)
        segments = item_segments(counts, _ranks(catalog)) if by_segment else None
        known = collect("register_metrics")
        self.meter = MetricAccumulator(metrics, known, facts, segments)
        ranked = [name for name, (metric, _) in self.meter.asked.items() if by_popularity(metric)]
        self.counts = counts.float()
        self.popularity_ranks: PopularityRanks | None = None
        self.floor = MetricAccumulator(ranked, known, facts, segments) if by_segment and ranked else None

    def update(self, module: RecModule, batch: Batch) -> None:
        """Take one batch: by scores, or by lists where the recommender retrieves and the candidates have no labels.

        Scores are those that are served: without autocast, since near ones would tie in bfloat16.
        Nothing is taken where the requests of a recommender that asks a language model are only planned.
        """
        with suppress(BatchPlanned), torch.autocast(batch.user.device.type, enabled=False):
            self._update(module, batch)

    def _update(self, module: RecModule, batch: Batch) -> None:
        given = {"candidates": batch.candidates, "users": batch.user}
        if self.meter.segments:
            given["new"] = (batch.history == 0).all(1)
        if batch.labels.is_floating_point():
            self.meter.update(module.rank(batch, module.mask_seen), labels=batch.labels, **given)
            self._update_floor(module, batch, labels=batch.labels, **given)
            return
        columns = target_columns(batch, self.num_items)
        if retrieves(module.recommender):
            scores, hidden = self._listed(module, batch)
        else:
            scores = module.rank(batch, module.mask_seen)
            hidden = scores.isneginf()
        self.masked_targets += int(((columns >= 0) & hidden.gather(1, columns.clamp(min=0))).sum())
        self.meter.update(scores, targets=columns, **given)
        self._update_floor(module, batch, targets=columns, **given)

    def _update_floor(self, module: RecModule, batch: Batch, **given: Tensor) -> None:
        if self.floor is None:
            return
        counts = self.counts = self.counts.to(batch.candidates.device)
        if "targets" in given and batch.candidates.shape == (1, self.num_items):
            self.popularity_ranks = self.popularity_ranks or PopularityRanks(counts[: self.num_items + 1])
            ranks = self.popularity_ranks(batch.labels, masked_items(batch, module.mask_seen))
            self.floor.update_ranks(ranks, batch.labels, given["users"], given.get("new"))
            return
        scores = (
            counts[batch.candidates].expand(len(batch), -1).masked_fill(batch.candidates == 0, -torch.inf)
        )
        masked = mask_items(scores, batch.candidates, batch.history) if module.mask_seen else scores
        self.floor.update(masked, **given)

    def _listed(self, module: RecModule, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, C) scores that rank the lists of a recommender, and (B, C) which candidates are masked."""
        masked = masked_items(batch, module.mask_seen)
        items, scores = module.top(batch, self.meter.longest, masked)
        allowed = without(batch.candidates, masked)
        columns = list_columns(
            items.masked_fill(scores.isneginf(), 0), allowed, type(module.recommender).__name__
        )
        return scores_of_lists(columns, allowed.shape[1]), allowed == 0


def by_popularity(metric: Metric) -> bool:
    """Whether counts of interactions may be measured by it: it reads an order, and no chances and no whole lists."""
    return metric.needs == "ranks" or (metric.needs == "scores" and metric.higher_is_better)


def _ranks(catalog: Catalog) -> Tensor:
    """(num_items + 1,) int64 order of the items by a hash of their raw ids; row 0 is first."""
    return torch.from_numpy(np.concatenate([[-1], hash_ranks(catalog.items["item_id"])]))


def item_facts(catalog: Catalog, counts: Tensor, num_items: int, metrics: Sequence[str]) -> ItemFacts:
    """What metrics of lists know of items: training counts, and categories and text vectors where asked for.

    num_items of them may be ranked, which the share that is ever recommended is measured by.
    """
    names = {metric.partition("@")[0] for metric in metrics}
    return ItemFacts(
        num_items=num_items,
        popularity=counts,
        categories=torch.from_numpy(catalog.categories()) if "category_diversity" in names else None,
        vectors=torch.from_numpy(text_vectors(catalog)) if "diversity" in names else None,
    )


def text_vectors(catalog: Catalog) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(num_items + 1, 512) hashed n-grams of all the text columns, for the diversity of lists."""
    encoder = HashingNgrams()
    vectors = np.zeros((catalog.num_items + 1, encoder.dim), np.float32)
    vectors[1:] = encoder.encode(catalog.texts(catalog.text_columns()))
    return vectors
