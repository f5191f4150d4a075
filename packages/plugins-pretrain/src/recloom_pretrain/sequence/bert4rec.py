"""BERT4Rec: sequential recommendation with a bidirectional encoder (Sun et al., CIKM 2019).

Training hides a share of the items of a sequence and predicts them from both sides; a share of the rows hides
the last item only, as the official data generation does. At inference a [MASK] is appended and read.

Unlike the paper and the authors' code:
* Norms stand before each sublayer, which trains without warm-up; the code's stand behind it and on the embeddings:
  `norm_first`.
* No dropout on attention weights, which slows a CPU: `attention_dropout`.
* Long histories are cut into windows side by side (`--data.windows`); the code's overlap by a stride, and ten masks of
  each are drawn beforehand. Here masks are drawn anew in every epoch.
* Positions are counted from the end of the history, so that padding changes nothing.
* AdamW with betas .9 and .98 at a constant rate; the code has .9 and .999, 100 steps of warm-up and weight decay .01:
  `--model.betas`, `--model.warmup_steps`, `--model.weight_decay`.
"""

from __future__ import annotations

from collections.abc import Iterable

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
)
from recloom.recommender import Queries, VectorRecommender
from torch import Tensor, nn


class BERT4Rec(VectorRecommender):
    """A bidirectional Transformer that fills in hidden items.

    Args:
        catalog: items and users.
        dim: width of the item vectors.
        num_layers: Transformer blocks.
        num_heads: attention heads of a block.
        ffn_dim: width of the feed-forward layer; four times `dim` where not given.
        max_len: how many of the most recent items are read.
        dropout: on the embeddings and on the output of each sublayer.
        norm_first: norms before each sublayer; else behind it and on the embeddings, as the authors' code.
        attention_dropout: of the attention weights; the authors' code has that of `dropout`.
        mask_share: share of a sequence that training hides, at least one item.
        mask_cap: how many items are hidden at most.
        last_only: share of the training rows in which just the last item is hidden.
        item_input: how items enter, see `recloom.nn.item_embedding`.
        vectors: name of the vectors that are read, where `--data.vectors` gives several; by default the first.
    """

    default_loss = "CrossEntropy"

    def __init__(
        self,
        catalog: Catalog,
        dim: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        ffn_dim: int | None = None,
        max_len: int = 50,
        dropout: float = 0.2,
        norm_first: bool = True,
        attention_dropout: float = 0.0,
        mask_share: float = 0.2,
        mask_cap: int = 40,
        last_only: float = 0.1,
        item_input: ItemInput = "id",
        vectors: str | None = None,
    ) -> None:
        super().__init__(catalog)
        at_least(1, dim=dim, num_heads=num_heads, ffn_dim=ffn_dim, max_len=max_len, mask_cap=mask_cap)
        at_least(0, num_layers=num_layers, mask_share=mask_share, last_only=last_only)
        self.max_len, self.mask_share, self.mask_cap, self.last_only = (
            max_len,
            mask_share,
            mask_cap,
            last_only,
        )
        self.mask = self.num_items + 1
        self.items = ItemEmbedding(catalog, dim, item_input, special=1, vectors=vectors)
        self.positions = Positions(max_len + 1, dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                dim, num_heads, ffn_dim or 4 * dim, dropout, nn.GELU(), norm_first, attention_dropout
            )
            for _ in range(num_layers)
        )
        before, within = (nn.LayerNorm, nn.Identity) if norm_first else (nn.Identity, nn.LayerNorm)
        self.norm = within(dim)  # of the embeddings
        self.head = nn.Sequential(before(dim), nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        self.bias = nn.Parameter(torch.zeros(self.num_items + 1))
        self.dropout = ByteDropout(dropout)

    @property
    def tells_cold_items(self) -> bool:
        return self.items.kind != "id"

    def extend(self, catalog: Catalog) -> None:
        """The bias of a new item is that of the median item, for none was learnt; [MASK] stays behind the items."""
        self.items.extend(catalog)
        new = self.bias.detach()[1:].median().expand(catalog.num_items - self.num_items)
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), new]))
        self.num_items = catalog.num_items
        self.mask = self.num_items + 1

    def encode(self, sequence: Tensor, lengths: Tensor, table: Tensor) -> Tensor:
        """Vectors (B, L, d) of sequences whose padding is on the right, [MASK] being an item like others."""
        return self.read(self.blocks, sequence, lengths, table)

    def read(self, blocks: Iterable[nn.Module], sequence: Tensor, lengths: Tensor, table: Tensor) -> Tensor:
        """What some of the blocks make of sequences: (B, L, d)."""
        places = self.positions(lengths, sequence.shape[1])
        x: Tensor = self.dropout(self.norm(self.items(sequence, table) + places))
        readable = (sequence > 0)[:, None, None, :]  # (B, 1, 1, L)
        for block in blocks:
            x = block(x, mask=readable)
        return x

    def query(self, batch: Batch) -> Tensor:
        history, lengths = align_left(batch.history[:, -(self.positions.num_embeddings - 1) :])
        sequence = torch.cat([history, torch.zeros_like(history[:, :1])], 1)
        sequence = sequence.scatter(1, lengths[:, None], self.mask)
        x = self.read(self.blocks[:-1], sequence, lengths + 1, self.items.table())
        out: Tensor = self.head(last_only(self.blocks, x, lengths))  # [MASK] stands last
        return out

    def item_vectors(self) -> Tensor:
        return self.items.table()[: self.num_items + 1]

    def item_bias(self) -> Tensor:
        return self.bias

    def training_queries(self, batch: Batch) -> Queries:
        sequence = torch.cat([batch.history, batch.labels[:, -1:]], 1)  # (B, L + 1)
        sequence, lengths = align_left(sequence)
        hidden = self.hide(sequence, lengths)
        table = self.items.table()
        x = self.encode(sequence.masked_fill(hidden, self.mask), lengths, table)
        users = batch.user[:, None].expand_as(sequence)[hidden]
        items = table[: self.num_items + 1]
        return Queries(self.head(x[hidden]), sequence[hidden], items, users, self.bias)

    def hide(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """Choose what training hides: (B, L) bool, never padding."""
        real = sequence > 0
        order = (
            torch.rand(sequence.shape, device=sequence.device).masked_fill(~real, 2.0).argsort(1).argsort(1)
        )
        hidden = order < hidden_count(lengths, self.mask_share, self.mask_cap)[:, None]
        last = torch.arange(sequence.shape[1], device=sequence.device) == (lengths - 1)[:, None]
        only = torch.rand(len(sequence), 1, device=sequence.device) < self.last_only
        return torch.where(only, last, hidden) & real


def hidden_count(lengths: Tensor, share: float, cap: int) -> Tensor:
    """How many items of a sequence are hidden: min(cap, max(1, round(length * share)))."""
    return (lengths * share).round().long().clamp(min=1, max=cap)
