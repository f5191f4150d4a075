"""Building blocks that several sequence models share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, scaled_dot_product_attention

from ..errors import RecloomError


class Attention(nn.Module):
    """Multi-head self-attention over (B, L, d); `mask` (B, 1, L, L) or (B, 1, 1, L) bool, True = may be read.

    Args:
        dim, num_heads: width, and heads that divide it.
        dropout: share of the attention weights that training drops.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise RecloomError(f"dim must be a multiple of num_heads; found dim={dim}, num_heads={num_heads}")
        self.num_heads, self.dropout = num_heads, checked_share(dropout)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4)
        if causal and torch.compiler.is_exporting():
            read = causal_attention(q, k, v)
        else:
            dropped = self.dropout if self.training else 0.0
            read = scaled_dot_product_attention(q, k, v, mask, dropped, causal)  # (B, h, L, d / h)
        out: Tensor = self.out(read.transpose(1, 2).reshape(b, n, d))
        return out

    def at(self, x: Tensor, place: Tensor) -> Tensor:
        """What the (B,) places alone read of (B, L, d), each up to itself: (B, 1, d)."""
        b, n, d = x.shape
        here, heads = rows_at(x, place), (self.num_heads, d // self.num_heads)
        weight, bias = self.qkv.weight, self.qkv.bias
        q = linear(here, weight[:d], bias[:d]).view(b, 1, *heads).transpose(1, 2)  # (B, h, 1, d / h)
        k, v = linear(x, weight[d:], bias[d:]).view(b, n, 2, *heads).permute(2, 0, 3, 1, 4)
        readable = (torch.arange(n, device=x.device) <= place[:, None])[:, None, None]  # (B, 1, 1, L)
        read = scaled_dot_product_attention(q, k, v, readable, self.dropout if self.training else 0.0)
        out: Tensor = self.out(read.transpose(1, 2).reshape(b, 1, d))
        return out


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (B, h, L, d / h) to the left, as runtimes on a CPU compute it fast.

    What may not be read scores 60 less than the place itself, a weight below 1e-26 of the largest: nothing in
    float32. Minus infinity would make the softmax five times slower there, by numbers too small to be normal.
    """
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    own = (q * k).sum(3, keepdim=True) * q.shape[3] ** -0.5
    column = torch.arange(q.shape[2], device=q.device)
    return torch.where(column <= column[:, None], scores, own - 60).softmax(3) @ v


def checked_share(dropout: float) -> float:
    """The share as it is; RecloomError where it is none that dropout can drop."""
    if not 0 <= dropout < 1:
        raise RecloomError(f"dropout must be at least 0 and below 1; found {dropout}")
    return dropout


class ByteDropout(nn.Module):
    """Dropout whose mask on a CPU is drawn eight elements to a random number, several times faster than torch's.

    There the probability is rounded to 1/256, and the scale is that of the rounded probability, so that
    the expected output is the input exactly.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = checked_share(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return dropout(x, self.p)
        dropped = round(self.p * 256)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = (words.view(torch.uint8)[: x.numel()] >= dropped).view(x.shape)
        return x * (keep.to(x.dtype) * (256 / (256 - dropped)))


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each with dropout on its output and around it a residual.

    Args:
        dim, num_heads, ffn_dim: widths, and heads that divide `dim`.
        dropout: on the output of each of the two.
        activation: of the feed-forward layer.
        norm_first: x + f(norm(x)), which trains without warm-up; else norm(x + f(x)), as the first Transformers.
        attention_dropout: of the attention weights.
        ffn_dropout: behind the activation.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float,
        activation: nn.Module,
        norm_first: bool = True,
        attention_dropout: float = 0.0,
        ffn_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = Attention(dim, num_heads, attention_dropout)
        inner = nn.Sequential(activation, ByteDropout(ffn_dropout)) if ffn_dropout else activation
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), inner, nn.Linear(ffn_dim, dim))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = ByteDropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        if not self.norm_first:
            return self.onward(self.norm1(x + self.dropout(self.attention(x, mask, causal))))
        return self.onward(x + self.dropout(self.attention(self.norm1(x), mask, causal)))

    def onward(self, x: Tensor) -> Tensor:
        """The feed-forward layer with its residual and norm."""
        if not self.norm_first:
            return self.norm2(x + self.dropout(self.ffn(x)))  # type: ignore[no-any-return]
        return x + self.dropout(self.ffn(self.norm2(x)))  # type: ignore[no-any-return]

    def at(self, x: Tensor, place: Tensor) -> Tensor:
        """The (B, d) vectors at (B,) places, each of which reads (B, L, d) up to itself; nothing else is computed."""
        here = rows_at(x, place)
        if not self.norm_first:
            return self.onward(self.norm1(here + self.dropout(self.attention.at(x, place))))[:, 0]
        return self.onward(here + self.dropout(self.attention.at(self.norm1(x), place)))[:, 0]


class Positions(nn.Embedding):
    """A vector for each place of a sequence, counted from its end: the last item always stands at the last place."""

    def __init__(self, max_len: int, dim: int, std: float = 0.02) -> None:
        super().__init__(max_len, dim)
        nn.init.normal_(self.weight, std=std)

    def forward(self, lengths: Tensor, columns: int) -> Tensor:  # type: ignore[override]
        """(B, columns, d) for sequences (B,) long, at most max_len, whose padding is on the right."""
        first = self.num_embeddings - lengths[:, None]  # (B, 1)
        place = torch.arange(columns, device=lengths.device) + first
        return super().forward(place.clamp(max=self.num_embeddings - 1))


def last_only(blocks: nn.ModuleList, x: Tensor, place: Tensor) -> Tensor:
    """The last of some Transformer blocks over what the others made (B, L, d), at (B,) places alone: (B, d)."""
    if not len(blocks):
        return rows_at(x, place)[:, 0]
    last: TransformerBlock = blocks[-1]  # type: ignore[assignment]
    return last.at(x, place)


def rows_at(x: Tensor, place: Tensor) -> Tensor:
    """Of (B, L, d) the vectors at (B,) places: (B, 1, d)."""
    return x.gather(1, place[:, None, None].expand(-1, 1, x.shape[2]))


def align_left(history: Tensor) -> tuple[Tensor, Tensor]:
    """Move the padding of a (B, L) history from the left to the right; also returns the lengths (B,)."""
    lengths = (history > 0).sum(1)
    return shift_left(history, lengths), lengths


def shift_left(rows: Tensor, lengths: Tensor) -> Tensor:
    """Move the last `lengths` columns of each row (B, L) to its left end, with 0 behind them."""
    n = rows.shape[1]
    place = torch.arange(n, device=rows.device) + (n - lengths)[:, None]  # (B, L)
    return rows.gather(1, place.clamp(max=n - 1)) * (place < n)
