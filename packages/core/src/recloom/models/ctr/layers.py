"""Fully connected layers at the end of a click model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from ..errors import RecloomError
from ..nn import Dropout
from .dice import Activation, activation


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
            layers += [nn.Linear(before, after), activation(kind, after), Dropout(dropout)]
        super().__init__(*layers, *([nn.Linear(hidden[-1], out)] if out else []))

    def widen(self, extra: int) -> None:
        """Take `extra` more inputs after those there are, whose weights stay as they are."""
        old = cast(nn.Linear, self[0])
        new = nn.Linear(old.in_features + extra, old.out_features)
        with torch.no_grad():
            new.weight[:, : old.in_features] = old.weight
            new.bias.copy_(old.bias)
        self[0] = new
