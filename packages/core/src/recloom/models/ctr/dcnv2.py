"""DCN v2, Wang et al. 2021, "DCN V2: Improved Deep & Cross Network".

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l

x_0 holds the fields of user, candidate and history (averaged). Parallel: logit = w [cross(x_0); MLP(x_0)];
stacked: logit = MLP(cross(x_0)).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ...batch import Batch
from ...data.catalog import Catalog
from ...errors import at_least
from .click_model import ClickModel
from .layers import Activation, Mlp


class DCNv2(ClickModel):
    """Explicit products of fields up to a chosen order, beside or before a deep network.

    Args:
        catalog: its columns are the fields.
        dim: size of a field's vector.
        num_layers: cross layers; each raises the order of the products by one.
        structure: whether the deep network stands beside the cross layers or after them.
        hidden: its layers.
        activation: of the deep network.
        dropout: in the deep network.
        max_len: how many of the most recent history items are read.
        user_fields: columns of the users; by default the id and every column of few values.
        item_fields: the same of the items.
        events: whether what happened with the items of a history, such as their ratings, is read.
    """

    def __init__(
        self,
        catalog: Catalog,
        dim: int = 16,
        num_layers: int = 3,
        structure: Literal["parallel", "stacked"] = "parallel",
        hidden: tuple[int, ...] = (200, 80),
        activation: Activation = "relu",
        dropout: float = 0.0,
        max_len: int = 50,
        user_fields: tuple[str, ...] | None = None,
        item_fields: tuple[str, ...] | None = None,
        events: bool = True,
    ) -> None:
        super().__init__(catalog, dim, max_len, user_fields, item_fields, events)
        at_least(1, num_layers=num_layers)
        self.structure, self.width = structure, dim * self.num_fields
        self.cross = Cross(self.width, num_layers)
        parallel = structure == "parallel"
        self.mlp = Mlp(self.width, hidden, None if parallel else 1, activation, dropout)
        self.out = nn.Linear(self.width + hidden[-1], 1) if parallel else None

    def logits(self, batch: Batch, extra: Tensor | None = None) -> Tensor:
        fields = self.fields(batch).flatten(-2)  # (B, C, D)
        crossed = self.cross(fields)
        if self.out is None:
            scores: Tensor = self.mlp(self.joined(crossed, extra))
        else:
            scores = self.out(torch.cat([crossed, self.mlp(self.joined(fields, extra))], -1))
        return scores[..., 0]

    def numbers(self, batch: Batch) -> int:
        return 8 * self.width


class Cross(nn.Module):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l over (..., size)."""

    def __init__(self, size: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(size, size) for _ in range(num_layers))

    def forward(self, first: Tensor) -> Tensor:
        x = first
        for layer in self.layers:
            x = first * layer(x) + x
        return x
