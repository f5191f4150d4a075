"""The tensors that a recommender reads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from .llm.texts.tokens import TokenBatch


@dataclass
class Batch:
    """Requests, and in training or evaluation what is to be predicted.

    Attributes:
        user: (B,) int64 user index, 0 = unknown user.
        history: (B, L) int64 item index, 0 = padding, most recent last.
        history_time: (B, L) int64 seconds, 0 where padded.
        request_time: (B,) int64 seconds.
        candidates: (B, C) int64 item index, 0 = padding; or (1, C) when every row shares them.
        labels: (B, C) float32 beside `candidates`; or in target-index form, int64 with 0 for none:
            (B, L) the item that follows each position of `history`, or (B, T) the held-out items.
        history_event: (B, L) int64 code of what happened with each item of `history`, as `events` of dataset.json
            numbers it; 0 = unknown or padding.
        label_event: (B, L) int64 code of what happened with each item of `labels`, in training rows that are
            sequences; (1, 0) in all others and in requests, so that no score can read it.
        context: (B, F) int64 codes of the fields of the request itself (device, place, hour), in the order of `context`
            in dataset.json; 0 = unknown. F may be 0. Of sequence rows those of the last label.
        text: rows that are texts and no items, as tokens, with `rows(index)` as here; None where there are none.
    """

    user: Tensor
    history: Tensor
    history_time: Tensor
    request_time: Tensor
    candidates: Tensor
    labels: Tensor
    history_event: Tensor
    label_event: Tensor
    context: Tensor
    text: TokenBatch | None = None

    def __len__(self) -> int:
        return self.user.shape[0]

    def rows(self, index: Tensor | slice) -> Batch:
        """The given rows; what has one row for all of them, such as shared candidates, stays shared."""
        several = len(self) > 1

        def picked(part: Any) -> Any:
            if part is None:
                return None
            if not isinstance(part, Tensor):
                return part.rows(index)
            return part if several and part.shape[0] == 1 else part[index]

        return Batch(**{field.name: picked(getattr(self, field.name)) for field in fields(self)})

    def cut_to(self, max_len: int | None) -> Batch:
        """The requests with histories cut or padded on the left to `max_len`, as an artefact reads them."""
        if max_len is None:
            return self
        room = (max(0, max_len - self.history.shape[1]), 0)
        names = ("history", "history_time", "history_event")
        history, times, events = (pad(getattr(self, name), room)[:, -max_len:] for name in names)
        return replace(self, history=history, history_time=times, history_event=events)

    @classmethod
    def of(
        cls,
        history: Tensor,
        candidates: Tensor | None = None,
        *,
        user: Tensor | None = None,
        history_time: Tensor | None = None,
        request_time: Tensor | None = None,
        labels: Tensor | None = None,
        history_event: Tensor | None = None,
        label_event: Tensor | None = None,
        context: Tensor | None = None,
        text: TokenBatch | None = None,
    ) -> Batch:
        """A batch from a (B, L) history; what is not given is empty, unknown or zero."""
        rows, device = history.shape[0], history.device
        zero = torch.zeros(rows, dtype=torch.long, device=device)
        empty = torch.zeros(1, 0, dtype=torch.long, device=device)
        return cls(
            user=zero if user is None else user,
            history=history,
            history_time=torch.zeros_like(history) if history_time is None else history_time,
            request_time=zero if request_time is None else request_time,
            candidates=empty if candidates is None else candidates,
            labels=empty if labels is None else labels,
            history_event=torch.zeros_like(history) if history_event is None else history_event,
            label_event=empty if label_event is None else label_event,
            context=zero.new_zeros(rows, 0) if context is None else context,
            text=text,
        )
