"""Dice: a PReLU whose turning point follows the data (Zhou et al. 2018).

f(s) = p(s) s + (1 - p(s)) alpha s,  p(s) = sigmoid((s - E[s]) / sqrt(Var[s] + eps))
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

Activation = Literal["relu", "prelu", "dice"]


class Dice(nn.Module):
    """Over the last of any number of dimensions; E and Var are the batch's in training, running means afterwards."""

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
    """A new module for rows of that size."""
    if kind == "relu":
        return nn.ReLU()
    return Dice(size) if kind == "dice" else nn.PReLU()
