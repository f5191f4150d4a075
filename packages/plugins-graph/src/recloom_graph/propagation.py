"""Vectors smoothed over a symmetric matrix: the mean of several products with it, cheap in both directions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


class LayerMean(torch.autograd.Function):
    """(1/(K+1)) (x + A x + ... + A^K x) for a symmetric A: its transpose is itself, so backward is forward.

    Computed as x + A (x + A (x + ...)), which needs K products and keeps no layer.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, adjacency: Tensor, x: Tensor, layers: int) -> Tensor:
        ctx.adjacency, ctx.layers = adjacency, layers  # type: ignore[attr-defined]
        total = x
        for _ in range(layers):
            total = torch.addmm(x, adjacency, total)
        return total / (layers + 1)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[None, Tensor, None]:
        return None, propagate(ctx.adjacency, grads[0], ctx.layers), None  # type: ignore[attr-defined]


def propagate(adjacency: Tensor, x: Tensor, layers: int) -> Tensor:
    """Mean of the layers 0 to `layers` of x (N, d) under a symmetric CSR matrix (N, N): (N, d).

    Autograd of a CSR product builds the transpose at every step, several times slower than this.
    """
    with torch.autocast(x.device.type, enabled=False):  # there is no bfloat16 CSR product on the CPU
        mean: Tensor = LayerMean.apply(adjacency, x.contiguous(), layers)  # type: ignore[no-untyped-call]
    return mean
