"""DeepFM, Guo et al. 2017, "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction".

    logit = w_0 + sum_f w_f + sum_{f < g} <v_f, v_g> + MLP([v_1; ...; v_F])

The fields f are those of user, candidate and history (averaged); the network and the products share the vectors v.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...batch import Batch
from ...data.catalog import Catalog
from ...errors import at_least
from .click_model import ClickModel
from .layers import Activation, Mlp


class DeepFM(ClickModel):
    """A factorization machine and a deep network over the same vectors.

    Args:
        catalog: its columns are the fields.
        dim: size of a field's vector.
        hidden: layers of the deep network.
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
        hidden: tuple[int, ...] = (200, 80),
        activation: Activation = "relu",
        dropout: float = 0.0,
        max_len: int = 50,
        user_fields: tuple[str, ...] | None = None,
        item_fields: tuple[str, ...] | None = None,
        events: bool = True,
    ) -> None:
        at_least(1, dim=dim)
        super().__init__(catalog, dim + 1, max_len, user_fields, item_fields, events)  # v_f and w_f
        self.bias = nn.Parameter(torch.zeros(()))
        self.mlp = Mlp(dim * self.num_fields, hidden, 1, activation, dropout)

    def logits(self, batch: Batch, extra: Tensor | None = None) -> Tensor:
        fields = self.fields(batch)  # (B, C, F, dim + 1)
        vectors, weights = fields[..., :-1], fields[..., -1]
        deep: Tensor = self.mlp(self.joined(vectors.flatten(-2), extra))[..., 0]
        return self.bias + weights.sum(-1) + products(vectors) + deep

    def numbers(self, batch: Batch) -> int:
        return 8 * self.mlp[0].in_features  # type: ignore[return-value, operator]


def products(vectors: Tensor) -> Tensor:
    """sum_{f < g} <v_f, v_g> = .5 sum over dim of ((sum_f v_f)^2 - sum_f v_f^2): (...) from (..., F, dim)."""
    return 0.5 * (vectors.sum(-2).square() - vectors.square().sum(-2)).sum(-1)
