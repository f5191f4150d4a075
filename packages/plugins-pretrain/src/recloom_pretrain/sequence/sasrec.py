"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018).

A causal Transformer reads the history; the vector at position i is to rank the item at i + 1 first.

Unlike the paper and the authors' code:
* The default loss is the full cross-entropy, which replications found to close the gap to BERT4Rec. The paper's is
  one negative per position that the user never had: `--model.loss BCE --model.loss.unseen true`, see `BCE`.
* Queries, keys and values are normalised, as the paper's equations have it; the code normalises queries alone and
  adds the residual to them, which no equation of the paper says.
* Items are not multiplied by the square root of d, as the code does and the paper does not: `scale_items`.
* No dropout on attention weights and within the feed-forward layer, which slows a CPU: `inner_dropout`.
* Positions are counted from the end of the history, so that padding changes nothing; embeddings begin at N(0, .02).
* AdamW with betas .9 and .98, as the code (Adam); without weight decay the two are one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from recloom.batch import Batch
from recloom.data import Catalog
from recloom.errors import at_least
from recloom.nn import (
    ByteDropout,
    ItemEmbedding,
    ItemInput,
    Positions,
    TransformerBlock,
    align_left,
    last_only,
    shift_left,
)
from recloom.recommender import Queries, VectorRecommender
from torch import Tensor, nn

GROUP = 32
"""Training rows encoded together; rows of like length are grouped, so that little padding is computed."""


class SASRec(VectorRecommender):
    """A causal Transformer over the items of the history.

    Args:
        catalog: items and users.
        dim: width of the item vectors.
        num_layers: Transformer blocks.
        num_heads: attention heads of a block.
        ffn_dim: width of the feed-forward layer; `dim` where not given.
        max_len: how many of the most recent items are read.
        dropout: on the embeddings and on the output of each sublayer.
        scale_items: multiply items by the square root of `dim` before positions are added, as the authors' code.
        inner_dropout: of attention weights and behind the activation; the authors' code has that of `dropout`.
        item_input: how items enter, see `recloom.nn.item_embedding`.
        vectors: name of the vectors that are read, where `--data.vectors` gives several; by default the first.
    """

    default_loss = "CrossEntropy"
    demo: ClassVar[dict[str, Any] | None] = {"max_epochs": 12, "lr": 3e-3, "batch_size": 64}
    causal: ClassVar[bool] = True

    def __init__(
        self,
        catalog: Catalog,
        dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        ffn_dim: int | None = None,
        max_len: int = 50,
        dropout: float = 0.2,
        scale_items: bool = False,
        inner_dropout: float = 0.0,
        item_input: ItemInput = "id",
        vectors: str | None = None,
    ) -> None:
        super().__init__(catalog)
        at_least(1, dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, max_len=max_len)
        at_least(0, num_layers=num_layers)
        self.max_len = max_len
        self.scale = dim**0.5 if scale_items else 1.0
        self.items = ItemEmbedding(catalog, dim, item_input, vectors=vectors)
        self.positions = Positions(max_len, dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                dim, num_heads, ffn_dim or dim, dropout, nn.ReLU(),
                attention_dropout=inner_dropout, ffn_dropout=inner_dropout,
            )
            for _ in range(num_layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(dim)
        self.dropout = ByteDropout(dropout)

    @property
    def tells_cold_items(self) -> bool:
        return self.items.kind != "id"

    def extend(self, catalog: Catalog) -> None:
        self.items.extend(catalog)
        self.num_items = catalog.num_items

    def encode(self, history: Tensor, lengths: Tensor, table: Tensor) -> Tensor:
        """Vectors (B, L, d) of a history whose padding is on the right; `table` holds the item vectors.

        Causal attention never reads to the right, so the padding needs no mask.
        """
        out: Tensor = self.norm(self.read(self.blocks, history, lengths, table))
        return out

    def read(self, blocks: Iterable[nn.Module], history: Tensor, lengths: Tensor, table: Tensor) -> Tensor:
        """What some of the blocks make of a history: (B, L, d)."""
        items = self.items(history, table)  # (B, L, d)
        items = items if self.scale == 1.0 else items * self.scale
        x: Tensor = self.dropout(items + self.positions(lengths, history.shape[1]))
        for block in blocks:
            x = block(x, causal=True)
        return x

    def query(self, batch: Batch) -> Tensor:
        history, lengths = align_left(batch.history[:, -self.positions.num_embeddings :])
        x = self.read(self.blocks[:-1], history, lengths, self.items.table())
        out: Tensor = self.norm(last_only(self.blocks, x, (lengths - 1).clamp(min=0)))
        return out

    def item_vectors(self) -> Tensor:
        return self.items.table()

    def training_queries(self, batch: Batch) -> Queries:
        history, lengths = align_left(batch.history)
        labels = shift_left(batch.labels, lengths)  # as the history: a position may have no label
        table = self.items.table()
        vectors, targets, users = [], [], []
        for rows in torch.split(lengths.argsort(descending=True, stable=True), GROUP):
            longest = max(1, int(lengths[rows[0]]))
            label = labels[rows, :longest]
            real = label > 0
            vectors.append(self.encode(history[rows, :longest], lengths[rows], table)[real])  # (n, d)
            targets.append(label[real])
            users.append(batch.user[rows, None].expand_as(label)[real])
        return Queries(torch.cat(vectors), torch.cat(targets), table, torch.cat(users))
