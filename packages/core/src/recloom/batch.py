"""The tensors that a recommender reads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import pad


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
    """

    user: Tensor
    history: Tensor
    history_time: Tensor
    request_time: Tensor
    candidates: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.user.shape[0]

    def rows(self, index: Tensor | slice) -> Batch:
        """The given rows; what has one row for all of them, such as shared candidates, stays shared."""
        several = len(self) > 1

        def picked(tensor: Tensor) -> Tensor:
            return tensor if several and tensor.shape[0] == 1 else tensor[index]

        return Batch(**{field.name: picked(getattr(self, field.name)) for field in fields(self)})

    def cut_to(self, max_len: int | None) -> Batch:
        """The requests with histories cut or padded on the left to `max_len`, as an artefact reads them."""
        if max_len is None:
            return self
        room = (max(0, max_len - self.history.shape[1]), 0)
        history, times = (pad(part, room)[:, -max_len:] for part in (self.history, self.history_time))
        return replace(self, history=history, history_time=times)

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
        )
