"""DIN, Zhou et al. 2018, "Deep Interest Network for Click-Through Rate Prediction".

    interest(c) = sum over h of a(h, c) h,   a(h, c) = MLP([h; c; h - c; h * c])

The weights a are not normalised, so that strong interests stay strong (section 4.3 of the paper); the four parts
of the attention's input are those of the authors' code. logit = MLP([user; c; interest(c)]).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...batch import Batch
from ...data.catalog import Catalog
from .click_model import ClickModel
from .layers import Activation, Mlp


class DIN(ClickModel):
    """Attention over the history with the candidate, for the chance of a positive label.

    Args:
        catalog: its columns are the fields.
        dim: size of a field's vector.
        hidden: layers of the final network.
        attention: layers of the attention's network.
        activation: of both networks.
        dropout: in the final network.
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
        attention: tuple[int, ...] = (36,),
        activation: Activation = "dice",
        dropout: float = 0.0,
        max_len: int = 50,
        user_fields: tuple[str, ...] | None = None,
        item_fields: tuple[str, ...] | None = None,
        events: bool = True,
    ) -> None:
        super().__init__(catalog, dim, max_len, user_fields, item_fields, events)
        self.width = dim * len(self.items)
        of_user = 0 if self.users is None else dim * len(self.users)
        self.attention = Mlp(4 * self.width, attention, 1, activation, 0.0)
        self.mlp = Mlp(of_user + 2 * self.width, hidden, 1, activation, dropout)

    def logits(self, batch: Batch, extra: Tensor | None = None) -> Tensor:
        rows = batch.history.shape[0], batch.candidates.shape[1], -1
        history = self.history(batch).flatten(-2)  # (B, L, D)
        candidates = self.items(batch.candidates).flatten(-2).expand(rows)  # (B, C, D)
        found = [candidates, self.interest(history, batch.history > 0, candidates)]
        if self.users is not None:
            found.insert(0, self.users(batch.user).flatten(-2)[:, None].expand(rows))
        scores: Tensor = self.mlp(self.joined(torch.cat(found, -1), extra))[..., 0]
        return scores

    def interest(self, history: Tensor, real: Tensor, candidates: Tensor) -> Tensor:
        """(B, C, D) from (B, L, D), (B, L) bool and (B, C, D)."""
        shape = candidates.shape[0], candidates.shape[1], history.shape[1], -1
        h, c = history[:, None].expand(shape), candidates[:, :, None].expand(shape)  # (B, C, L, D)
        there = real[:, None].expand(h.shape[:-1])  # (B, C, L)
        if self.training:  # padding neither costs time nor enters the statistics of Dice
            found = self._weights(h[there], c[there])
            weights = found.new_zeros(there.shape).masked_scatter(there, found)
        else:
            weights = self._weights(h, c) * there
        interest: Tensor = weights @ history
        return interest

    def numbers(self, batch: Batch) -> int:
        layers = [part.out_features for part in self.attention if isinstance(part, torch.nn.Linear)]
        return max(8 * self.width, 5 * max(layers)) * batch.history.shape[1]  # 5: what Dice holds; measured

    def _weights(self, h: Tensor, c: Tensor) -> Tensor:
        found: Tensor = self.attention(torch.cat([h, c, h - c, h * c], -1))[..., 0]
        return found
