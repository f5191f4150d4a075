"""Fully connected layers of click models, and their activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from ...errors import RecloomError
from ...nn.transformer import ByteDropout

Activation = Literal["relu", "prelu", "dice"]


class Mlp(nn.Sequential):
    """Linear, activation and dropout for each hidden size, and one linear output where `out` is given.

    Args:
        size: of the input.
        hidden: sizes of the layers.
        out: size of the output; None = the last hidden layer is the output.
    """

    def __init__(
        self, size: int, hidden: Sequence[int], out: int | None, kind: Activation, dropout: float
    ) -> None:
        if not hidden or min(hidden) < 1:
            raise RecloomError(f"hidden needs at least one size, each above 0; found {list(hidden)}")
        layers: list[nn.Module] = []
        for before, after in zip([size, *hidden], hidden, strict=False):
            layers += [nn.Linear(before, after), activation(kind, after), ByteDropout(dropout)]
        super().__init__(*layers, *([nn.Linear(hidden[-1], out)] if out else []))

    def widen(self, extra: int) -> None:
        """Take `extra` more inputs after those there are, whose weights stay as they are."""
        old = cast(nn.Linear, self[0])
        new = nn.Linear(old.in_features + extra, old.out_features)
        with torch.no_grad():
            new.weight[:, : old.in_features] = old.weight
            new.bias.copy_(old.bias)
        self[0] = new


class Dice(nn.Module):
    """A PReLU whose turning point follows the data (Zhou et al. 2018).

    f(s) = p(s) s + (1 - p(s)) alpha s,  p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps))

    s is (..., size); E and Var are those of the batch in training, running means afterwards; alpha (size,) is learnt.
    """

    def __init__(self, size: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(size))
        self.norm = nn.BatchNorm1d(size, eps=eps, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        if self.training and len(flat) < 2:  # one row has no variance
            normed = batch_norm(flat, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps)
        else:
            normed = self.norm(flat)
        chance = torch.sigmoid(normed)
        found: Tensor = flat * (chance + (1 - chance) * self.alpha)
        return found.view(x.shape)


def activation(kind: Activation, size: int) -> nn.Module:
    """A new activation for rows (..., size)."""
    if kind == "relu":
        return nn.ReLU()
    return Dice(size) if kind == "dice" else nn.PReLU()
