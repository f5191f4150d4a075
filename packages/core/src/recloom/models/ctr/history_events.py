"""What happened with the items of a history, such as their ratings, as a change of the items' vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HistoryEvents(nn.Module):
    """h' = h * (1 + s_e) + b_e for an item h with which e happened; s_0 = b_0 = 0, as are all at the start.

    The product lets a disliked item count against what is like it; the sum says how the user rates at all.

    Args:
        num_events: codes from 1; 0 is unknown and changes nothing.
        fields: of an item.
        dim: size of a field's vector.
    """

    def __init__(self, num_events: int, fields: int, dim: int) -> None:
        super().__init__()
        self.shape = fields, dim
        self.scale, self.shift = (nn.Embedding(num_events + 1, fields * dim, padding_idx=0) for _ in range(2))
        for table in (self.scale, self.shift):
            nn.init.zeros_(table.weight)

    def forward(self, vectors: Tensor, events: Tensor) -> Tensor:
        """(B, L, F, dim) from the same and (B, L) codes."""
        scale, shift = (table(events).unflatten(-1, self.shape) for table in (self.scale, self.shift))
        return torch.addcmul(vectors + shift, vectors, scale)
