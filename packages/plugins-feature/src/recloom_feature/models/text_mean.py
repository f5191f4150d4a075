"""TextMean: a user is the mean of the text embeddings of the history, and the score is the cosine.

n_i = encode(text_i) / |encode(text_i)|
mean    u = (sum over h in H of w_h n_h) / (sum over h in H of w_h),  s(u, i) = u . n_i / |u|
max     s(u, i) = max over h in H of w_h (n_h . n_i)

w_h = 1, or 2^(-(places after h) / half life). H holds the items with a text.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from recloom.batch import Batch
from recloom.data import Catalog, Interactions
from recloom.errors import DataError, RecloomError, at_least
from recloom.llm import HashingNgrams, TextEncoder
from recloom.recommender import Search, VectorRecommender
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize, pad

BLOCK = 1 << 24
"""Cosines held at once while the closest item of a history is looked for."""
NO_DIRECTION = (
    1e-6  # texts that cancel each other leave rounding errors, which must not count as a preference
)


class TextMean(VectorRecommender):
    """Recommends items whose texts are close to the history. Needs no training, and scores new items at once.

    An empty history, one without texts, or one whose texts cancel each other scores 0 for every item; so does
    an item without text for every user.

    Args:
        catalog: items with text columns.
        encoder: turns texts into vectors; None = `HashingNgrams()`, which needs no model.
        columns: text columns of the items, joined to one text.
        half_life: an item counts half as much as one that came `half_life` places later in the history;
            None = all count the same.
        max_len: how many of the most recent items count; None = all.
        similarity: to the `mean` of the history, or to the one item of it that is closest (`max`), which suits
            users with several interests; there a candidate that repeats the last item scores 1.
    """

    demo: ClassVar[dict[str, Any] | None] = {}

    inputs: ClassVar[tuple[str, ...]] = ("history",)
    vectors: Tensor

    def __init__(
        self,
        catalog: Catalog,
        encoder: TextEncoder | None = None,
        columns: tuple[str, ...] = ("title",),
        half_life: float | None = None,
        max_len: int | None = None,
        similarity: Literal["mean", "max"] = "mean",
    ) -> None:
        super().__init__(catalog)
        at_least(1, max_len=max_len)
        if half_life is not None and half_life <= 0:
            raise RecloomError(
                f"half_life of TextMean must be above 0 items, or null for no decay; found {half_life}"
            )
        self.catalog, self.encoder, self.columns = catalog, encoder or HashingNgrams(), tuple(columns)
        self.half_life, self.max_len, self.similarity = half_life, max_len, similarity
        self.register_buffer("vectors", torch.zeros(0, 0))

    def fit(self, interactions: Interactions) -> None:
        """Encode the texts of the catalogue; the interactions are not read."""
        encoded = torch.from_numpy(self.encoder.encode(self.catalog.texts(self.columns))).float()
        vectors = encoded.new_zeros(self.num_items + 1, encoded.shape[1])
        vectors[1:] = normalize(encoded, dim=1)
        self.vectors = vectors.to(self.vectors.device)

    def extend(self, catalog: Catalog) -> None:
        """Encode the texts of the new items; one without text is an error: it would never be found."""
        texts = catalog.texts(self.columns)[self.num_items :]
        if "" in texts:
            name = catalog.item_ids([self.num_items + 1 + texts.index("")])[0]
            raise DataError(
                f"item {name!r} has no text in {', '.join(self.columns)}, which is all that TextMean reads of it. "
                "Give it one, or leave the item out."
            )
        new = normalize(torch.from_numpy(self.encoder.encode(texts)).float(), dim=1)
        self.vectors = torch.cat([self.vectors, new.to(self.vectors.device)])
        self.catalog, self.num_items = catalog, catalog.num_items

    def score(self, batch: Batch) -> Tensor:
        if self.similarity == "mean":
            return super().score(batch)
        history, weights = (
            pad(part, (1, 0)) for part in self._weighted(batch)
        )  # an empty one has no maximum
        candidates = batch.candidates
        if torch.compiler.is_exporting():
            return self._closest(history, weights, candidates)
        rows = max(1, BLOCK // max(1, history.shape[1] * candidates.shape[1]))
        shared = candidates.shape[0] == 1
        blocks = (slice(start, start + rows) for start in range(0, max(1, len(history)), rows))
        return torch.cat(
            [self._closest(history[b], weights[b], candidates if shared else candidates[b]) for b in blocks]
        )

    def search(self) -> Search | None:
        """None for `max`, which has no single query vector."""
        return super().search() if self.similarity == "mean" else None

    def query(self, batch: Batch) -> Tensor:
        """(B, d) of length 1, or 0 where the history has no text."""
        if self.similarity == "max":
            raise RecloomError("TextMean with similarity max has no query vector; use similarity mean")
        table = self.item_vectors()
        history, weights = self._weighted(batch)
        mean = weighted_sum(table, history, weights) / weights.sum(1, keepdim=True).clamp(min=NO_DIRECTION)
        length = mean.norm(dim=1, keepdim=True)
        return torch.where(length > NO_DIRECTION, mean / length.clamp(min=NO_DIRECTION), 0.0)

    def _weighted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The (B, L) items that count and their weights, 0 for padding."""
        history = batch.history if self.max_len is None else batch.history[:, -self.max_len :]
        weights = (history > 0).to(self.vectors.dtype)
        if self.half_life is not None:
            later = torch.arange(history.shape[1] - 1, -1, -1, device=history.device)
            weights = weights * 0.5 ** (later / self.half_life)
        return history, weights

    def _closest(self, history: Tensor, weights: Tensor, candidates: Tensor) -> Tensor:
        table = self.item_vectors()
        vectors = table[history]  # (B, L, d)
        near = _cosines(vectors, table, candidates) * weights[:, :, None]
        has_text = (history > 0) & (vectors != 0).any(2)
        best = near.masked_fill(~has_text[:, :, None], -torch.inf).amax(1)
        return best.masked_fill(~has_text.any(1, keepdim=True), 0.0)

    def item_vectors(self) -> Tensor:
        """(num_items + 1, d) of length 1, or 0 where there is no text."""
        if not self.vectors.numel():
            raise RecloomError(
                "TextMean has no item vectors yet. Call fit(interactions) before scores are asked for, "
                "or load a checkpoint that was written after fit."
            )
        return self.vectors


def _cosines(vectors: Tensor, table: Tensor, candidates: Tensor) -> Tensor:
    """(B, L, C) inner products of (B, L, d) with the rows of (1, C) or (B, C) candidates."""
    shared = candidates.shape[0] == 1
    items = table[candidates[0]].T if shared else table[candidates].transpose(1, 2)  # (d, C) or (B, d, C)
    return vectors @ items


def weighted_sum(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum over l of weights[b, l] * table[rows[b, l]]: (B, d) from (N, d), (B, L) and (B, L)."""
    if torch.compiler.is_exporting():  # ONNX has no bags; for serving, the (B, L, d) between is small
        return (weights[:, None] @ table[rows])[:, 0]
    rows, weights = pad(rows, (1, 0)), pad(weights, (1, 0))  # a bag of no columns is an error
    return embedding_bag(rows, table, mode="sum", per_sample_weights=weights)
