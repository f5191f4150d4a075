"""Propagation over a symmetric matrix: the mean of several products, with a backward pass as cheap as the forward.

    mean of the layers first..K,  e^(k+1) = A e^(k) + noise_k

A is its own transpose, so the backward pass is the same sum of products as the forward pass, and no layer is kept.
Noise does not depend on x, as far as gradients go.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..graphs.backends import Product


def propagate(product: Product, x: Tensor, layers: int, first: int = 0, noise: float = 0.0) -> Tensor:
    """Mean of the layers `first` to `layers` of x (N, d) under a symmetric matrix (N, N): (N, d).

    Args:
        product: with that matrix, see `backends`.
        first: 0, or 1 to leave x itself out of the mean.
        noise: length of a random step that every vector takes after each product, within its own orthant (SimGCL).

    Autograd of a CSR product builds the transpose at every step, several times slower than this.
    """
    with torch.autocast(x.device.type, enabled=False):  # there is no bfloat16 CSR product on the CPU
        mean: Tensor = _LayerMean.apply(product, x.contiguous(), layers, first, noise)  # type: ignore[no-untyped-call]
    return mean


class _LayerMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, product: Product, x: Tensor, layers: int, first: int, noise: float) -> Tensor:
        ctx.product, ctx.layers, ctx.first = product, layers, first
        return noisy_mean(product, x, layers, first, noise) if noise else mean(product, x, layers, first)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None, None]:
        with torch.autocast(grads[0].device.type, enabled=False):
            found = mean(ctx.product, grads[0].contiguous(), ctx.layers, ctx.first)
        return None, found, None, None, None


def mean(product: Product, x: Tensor, layers: int, first: int = 0) -> Tensor:
    """As `propagate` without noise, by x + A (x + A (x + ...)): as many products as layers."""
    total = x
    for _ in range(layers - first):
        total = product(total).add_(x)
    if first:
        total = product(total)
    return total / (layers + 1 - first)


def noisy_mean(product: Product, x: Tensor, layers: int, first: int, noise: float) -> Tensor:
    """As `propagate` with noise: layer by layer, since each is moved anew."""
    total = torch.zeros_like(x) if first else x.clone()
    layer = x
    for _ in range(layers):
        layer = product(layer)
        layer = layer + noise * layer.sign() * normalize(torch.rand_like(layer), dim=1)
        total += layer
    return total / (layers + 1 - first)
