"""Cross-entropy over the whole catalogue without its logits in memory.

A linear layer and its cross-entropy are computed together in blocks of rows; the gradients are formed in
the forward pass, so that a block's logits live only while the block is processed. Memory is bounded by
`BLOCK` elements instead of queries times items. The idea is that of fused linear cross-entropy kernels
(Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2024).

Under autocast too it is computed in float32, as torch's own cross-entropy is: in half precision exp(60) is infinite.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 20
"""Elements of logits held at once."""
SAFE = 60.0
"""Logits bounded by this need no maximum subtracted: exp(60) times 10^8 items is far below float32's 3e38."""


def linear_cross_entropy(
    vectors: Tensor,
    items: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean of -log softmax(vectors @ items.T + bias)[target] over the rows.

    Args:
        vectors: (N, d) queries.
        items: (V, d) item vectors; every row is a class.
        targets: (N,) int64 classes.
        bias: (V,) or None.
        weights: (N,) of the rows in the mean, such as how often a row occurs; None = 1 each.

    Vectors of different or of half precision are taken to float32 first.

    Returns:
        A scalar of float32, or float64 where an argument is; 0 when N is 0. Gradients reach vectors, items and bias.
    """
    dtype = torch.promote_types(torch.promote_types(vectors.dtype, items.dtype), torch.float32)
    with torch.autocast(vectors.device.type, enabled=False):
        found: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            vectors.to(dtype), items.to(dtype), targets, None if bias is None else bias.to(dtype), weights
        )
        return found


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        items: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        weights: Tensor | None,
    ) -> Tensor:
        need = any(ctx.needs_input_grad)
        rows = max(1, BLOCK // max(1, items.shape[0]))
        x, w = vectors.detach(), items.detach()
        gx, gw = (torch.empty_like(x), torch.zeros_like(w)) if need else (None, None)
        gb = torch.zeros_like(bias) if need and bias is not None else None
        buffer = x.new_empty(min(rows, x.shape[0]), w.shape[0])
        largest = x.norm(dim=1).max() * w.norm(dim=1).max() if x.numel() else x.new_zeros(())
        safe = bool((largest if bias is None else largest + bias.abs().max()) < SAFE)
        total = x.new_zeros((), dtype=torch.float64)
        for start in range(0, x.shape[0], rows):
            xb, tb = x[start : start + rows], targets[start : start + rows]
            logits = torch.mm(xb, w.T, out=buffer[: xb.shape[0]])  # (R, V)
            if bias is not None:
                logits += bias.detach()
            hit = logits.gather(1, tb[:, None])[:, 0]
            if not safe:
                top = logits.amax(1)
                logits -= top[:, None]
                hit = hit - top
            mass = logits.exp_().sum(1)  # (R,), and logits now hold exp(logit)
            loss = mass.log() - hit
            share = None if weights is None else weights[start : start + rows].to(x.dtype)
            total += (loss if share is None else loss * share).sum(dtype=torch.float64)
            if gx is None or gw is None:
                continue
            scale = (mass.reciprocal() if share is None else share / mass)[:, None]
            torch.mm(logits, w, out=gx[start : start + rows]).mul_(scale)
            gx[start : start + rows] -= w[tb] if share is None else w[tb] * share[:, None]
            gw.addmm_(logits.T, xb * scale)
            if gb is not None:
                gb += (logits * scale).sum(0)
        if gw is not None:
            gw.index_add_(0, targets, x if weights is None else x * weights.to(x.dtype)[:, None], alpha=-1)
        if gb is not None:
            gone = gb.new_ones(targets.shape) if weights is None else weights.to(gb.dtype)
            gb.index_add_(0, targets, gone, alpha=-1)
        ctx.save_for_backward(gx, gw, gb)
        ctx.rows = max(1, x.shape[0]) if weights is None else float(weights.sum()) or 1.0
        mean: Tensor = (total / ctx.rows).to(x.dtype)
        return mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, Tensor | None, None]:
        scale = grads[0] / ctx.rows
        gx, gw, gb = ctx.saved_tensors
        return gx * scale, gw * scale, None, None if gb is None else gb * scale, None
