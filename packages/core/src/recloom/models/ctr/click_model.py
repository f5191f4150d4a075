"""What click models share: fields of user, candidate and history, labels to learn from, and room for more input."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ...batch import Batch
from ...data.batches.training_rows import PointwiseRows, Rows
from ...data.catalog import Catalog
from ...data.interactions import Interactions
from ...data.provenance import check_first
from ...errors import RecloomError, at_least
from ...recommender import ExportSpec, Recommender
from .fields import Fields
from .history_events import HistoryEvents
from .layers import Mlp

if TYPE_CHECKING:
    from ...data.batches.module import RecDataModule

AT_ONCE = 1 << 24
"""Numbers held at once while scoring without gradients."""
EXPORTED = 1 << 28
"""The same in an exported graph, 1 GB."""
PRIOR = 10.0
"""Interactions of average taste that an item is credited with when cold-start users are scored."""


class ClickModel(Recommender):
    """Scores are logits: their sigmoid is the chance that the user likes the candidate.

    An id without training interactions has no vector of its own: user and item are then known by their other
    fields alone, the user by the history too.

    Args:
        catalog: its columns are the fields.
        dim: size of a field's vector.
        max_len: how many of the most recent history items are read.
        user_fields, item_fields: columns; None = the id and every column of few values.
        events: whether what happened with the items of a history, such as their ratings, is read, where the data say
            it; otherwise a disliked item counts like a liked one.
    """

    inputs: ClassVar[tuple[str, ...]] = ("user", "history")
    default_loss = "LogLoss"
    reads_pairs = True
    mlp: Mlp
    """The final network; `widen` makes room in it."""

    def __init__(
        self,
        catalog: Catalog,
        dim: int,
        max_len: int,
        user_fields: tuple[str, ...] | None,
        item_fields: tuple[str, ...] | None,
        events: bool = True,
    ) -> None:
        super().__init__(catalog)
        at_least(1, dim=dim, max_len=max_len)
        self.max_len, self.extra = max_len, 0
        if item_fields is not None and not len(item_fields):
            raise RecloomError("item_fields names no column, so all items would be alike; name some of them")
        without_users = user_fields is not None and not len(user_fields)
        self.users = None if without_users else Fields(catalog.users, user_fields, dim)
        self.items = Fields(catalog.items, item_fields, dim)
        self.events = (
            HistoryEvents(catalog.num_events, len(self.items), dim) if events and catalog.num_events else None
        )
        if self.events is not None:
            self.inputs = (*type(self).inputs, "history_event")  # type: ignore[misc]
        self.register_load_state_dict_pre_hook(_without_events)  # type: ignore[no-untyped-call]

    def logits(self, batch: Batch, extra: Tensor | None = None) -> Tensor:
        """(B, C) logits; `extra` (B, C, size) joins the input of the final network once it was widened."""
        raise NotImplementedError(f"{type(self).__name__} must define logits(batch, extra)")

    def numbers(self, batch: Batch) -> int:
        """How many numbers one pair of request and candidate needs, about."""
        raise NotImplementedError(f"{type(self).__name__} must define numbers(batch)")

    @property
    def tells_cold_items(self) -> bool:
        """By the fields beside the id."""
        return any(column != self.items.key for column in self.items.columns)

    def fit(self, interactions: Interactions) -> None:
        """Ids that do not occur in training are unknown."""
        self.items.learn(interactions.item_counts())
        if self.users is not None:
            self.users.learn(interactions.lengths)

    def training_rows(self, data: RecDataModule) -> Rows:
        """Interactions with their labels; those that a language model may know of are no rows."""
        if data.user_vectors is not None:
            check_first(data.user_vectors, data.known_first)
        if data.candidates == "all":
            warnings.warn(
                "a click model reads every pair of user and item, so ranking the whole catalogue takes long; "
                "--data.candidates rated --data.seen kept tells labelled interactions apart instead",
                stacklevel=2,
            )
        return PointwiseRows(data.train, self.max_len or int(data.train.lengths.max()), data.known_first)

    def cold_start_scores(self, interactions: Interactions) -> Tensor:
        """Logits of each item's share of positive labels, drawn towards that of all items where there are few."""
        if interactions.positive is None:
            return super().cold_start_scores(interactions)
        places = interactions.rows()
        labels = interactions.labels()[places].double()
        liked = torch.bincount(
            interactions.items[places].long(), labels, minlength=interactions.num_items + 1
        )
        average = (labels.sum() + 1) / (len(labels) + 2)
        return ((liked + PRIOR * average) / (interactions.item_counts() + PRIOR)).logit().float()

    def widen(self, extra: int) -> None:
        """Make the input of the final network `extra` numbers wider; `logits` then asks for them."""
        self.mlp.widen(extra)
        self.extra += extra

    def score(self, batch: Batch) -> Tensor:
        return torch.cat([self.logits(part) for part in self.parts(batch)], 1)

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """The batch with so many of its candidates at once as fit into memory; all where gradients are needed."""
        batch = self._cut(batch)
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            yield batch
            return
        size = max(1, AT_ONCE // max(1, len(batch) * self.numbers(batch)))
        for candidates in torch.split(batch.candidates, size, 1):
            yield replace(batch, candidates=candidates)

    def export(self) -> ExportSpec:
        return replace(super().export(), rows=self.rows_at_once())

    def rows_at_once(self) -> int:
        """Requests that an exported graph, which has no loop over candidates, computes at once in EXPORTED numbers."""
        one = Batch.of(torch.zeros(1, self.max_len or 1, dtype=torch.long))
        size = max(1, self.num_items * self.numbers(one))
        if size > EXPORTED:
            warnings.warn(
                f"one request to the exported file takes about {4 * size / 1e9:,.1f} GB of memory, since it scores "
                f"{self.num_items:,} items for a history of {self.max_len} at once. Recommend with the run, which "
                "scores them in parts, or train with a smaller max_len or dim",
                stacklevel=2,
            )
        return max(1, EXPORTED // size)

    def joined(self, x: Tensor, extra: Tensor | None) -> Tensor:
        """The input of the final network: (B, C, n), and the extra one after it."""
        found = 0 if extra is None else extra.shape[-1]
        if found != self.extra:
            raise RecloomError(
                f"{type(self).__name__} expects {self.extra} extra inputs of its final network, found {found}"
            )
        return x if extra is None else torch.cat([x, extra], -1)

    def fields(self, batch: Batch) -> Tensor:
        """(B, C, F, dim): fields of the user, of the candidate, and of the items of the history, averaged."""
        history = self.history(batch)
        real = (batch.history > 0)[..., None, None]
        pooled = (history * real).sum(1) / real.sum(1).clamp(min=1)  # (B, Fi, dim)
        found = [self.items(batch.candidates), pooled[:, None]]
        if self.users is not None:
            found.insert(0, self.users(batch.user)[:, None])
        shape = batch.history.shape[0], batch.candidates.shape[1], -1, -1
        return torch.cat([part.expand(shape) for part in found], 2)

    def history(self, batch: Batch) -> Tensor:
        """(B, L, Fi, dim): fields of the items of the history, and what happened with them."""
        found: Tensor = self.items(batch.history)
        return found if self.events is None else self.events(found, batch.history_event)

    @property
    def num_fields(self) -> int:
        """Fields of `fields`."""
        return 2 * len(self.items) + (0 if self.users is None else len(self.users))

    def _cut(self, batch: Batch) -> Batch:
        """The end of the history."""
        assert self.max_len is not None
        if batch.history.shape[1] <= self.max_len:
            return batch
        end = {name: getattr(batch, name)[:, -self.max_len :] for name in ("history", "history_event")}
        return replace(batch, **end)


def _without_events(model: ClickModel, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    """A checkpoint without weights of events, from before there were any: its model does not read them."""
    if model.events is None or any(name.startswith(f"{prefix}events.") for name in state):
        return
    model.events = None
    model.inputs = type(model).inputs  # type: ignore[misc]
    warnings.warn(
        f"this {type(model).__name__} was trained before click models read what happened with the items of a history, "
        "and is used as it was trained, without. To have it read, train a new run",
        stacklevel=2,
    )
