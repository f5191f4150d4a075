"""TextProjection: text embeddings projected by a trained matrix, then averaged as in `TextMean`.

n_i = encode(text_i) / |encode(text_i)|,   p_i = P n_i / |P n_i|
u = (sum over h in H of w_h p_h) / |sum over h in H of w_h p_h|
s(u, i) = u . p_i / temperature

P alone is trained: it learns which differences between texts matter for the next choice. It has no parameter of a
single item, so new items are placed at once. At first P has orthonormal rows, so that cosines are
about those of the texts.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from recloom.batch import Batch
from recloom.data import Catalog, Interactions
from recloom.errors import RecloomError, at_least
from recloom.llm import TextEncoder
from recloom.recommender import Queries
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from .text_mean import NO_DIRECTION, TextMean


class TextProjection(TextMean):
    """TextMean in a space that is learnt from interactions.

    Args:
        catalog: items with text columns.
        dim: size of the learnt space; at most that of the encoder's vectors.
        temperature: what cosines are divided by; smaller sets good and bad items further apart.
        encoder: turns texts into vectors; None = `HashingNgrams()`, which needs no model.
        columns: text columns of the items, joined to one text.
        half_life: as for `TextMean`.
        max_len: how many of the most recent items count.
    """

    default_loss = "CrossEntropy"
    causal: ClassVar[bool] = True

    def __init__(
        self,
        catalog: Catalog,
        dim: int = 64,
        temperature: float = 0.07,
        encoder: TextEncoder | None = None,
        columns: tuple[str, ...] = ("title",),
        half_life: float | None = None,
        max_len: int = 50,
    ) -> None:
        super().__init__(catalog, encoder, columns, half_life, max_len)
        at_least(1, dim=dim)
        if not 0 < temperature < float("inf"):
            raise RecloomError(f"temperature must be above 0 and finite; found {temperature}. Try 0.07.")
        self.dim, self.temperature = dim, temperature
        self.weight = nn.Parameter(torch.empty(dim, 0))  # P; the size of texts is known after `fit`
        self._kept: Tensor | None = None
        self.register_load_state_dict_pre_hook(_sized)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def fit(self, interactions: Interactions) -> None:
        super().fit(interactions)
        size = self.vectors.shape[1]
        if self.dim > size:
            raise RecloomError(f"dim must be at most {size}, the size of the text vectors; found {self.dim}")
        self.weight = nn.Parameter(nn.init.orthogonal_(self.vectors.new_empty(self.dim, size)))
        self._kept = None

    def extend(self, catalog: Catalog) -> None:
        super().extend(catalog)
        self._kept = None

    def item_vectors(self) -> Tensor:
        """(num_items + 1, dim) of length 1, or 0 where there is no text; computed once in eval mode."""
        texts = super().item_vectors()
        if self.training or torch.is_grad_enabled():
            return normalize(linear(texts, self.weight), dim=1)
        if self._kept is None:
            self._kept = normalize(linear(texts, self.weight), dim=1)
        return self._kept

    def query(self, batch: Batch) -> Tensor:
        return super().query(batch) / self.temperature

    def training_queries(self, batch: Batch) -> Queries:
        """A query for each position, from the items up to it."""
        table, real = self.item_vectors(), batch.labels > 0
        weights = self._decay(batch.history.shape[1]).to(table)
        means = weights @ table[batch.history]  # (B, L, dim); padding adds 0
        vectors = normalize(means, dim=2, eps=NO_DIRECTION) / self.temperature
        users = batch.user[:, None].expand_as(batch.labels)
        return Queries(vectors[real], batch.labels[real], table, users[real])

    def _decay(self, length: int) -> Tensor:
        """(L, L) weight of the item in each column for the query of each row."""
        place = torch.arange(length, device=self.vectors.device)
        age = place[:, None] - place
        weights = 1.0 if self.half_life is None else 0.5 ** (age.clamp(min=0) / self.half_life)
        return weights * ((age >= 0) & (age < (self.max_len or length)))

    def train(self, mode: bool = True) -> TextProjection:
        self._kept = None
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> TextProjection:
        self._kept = None  # the module moves to another device or type
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def _sized(module: TextProjection, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Give the matrix the size it has in the state."""
    saved = state.get(f"{prefix}weight")
    if saved is not None and saved.shape != module.weight.shape:
        module.weight = nn.Parameter(torch.empty_like(saved))


def _forget(module: TextProjection, _: object) -> None:
    """Weights were loaded, so vectors computed from others are void."""
    module._kept = None
