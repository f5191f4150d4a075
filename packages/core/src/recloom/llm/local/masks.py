"""Which token of a pretrained model reads which: masks, prefixes, and ranges of layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import RecloomError


@dataclass(frozen=True)
class Prefix:
    """Keys and values of tokens that stand before others.

    Attributes:
        keys, values: (layers, B, heads, P, d).
        mask: (B, P) bool, True where a token is.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor

    def rows(self, index: Tensor) -> Prefix:
        """Those of some rows, which may be repeated, such as one for each candidate."""
        return Prefix(self.keys[:, index], self.values[:, index], self.mask[index])

    def as_cache(self) -> Any:
        """The same as transformers reads it."""
        from transformers import DynamicCache

        return DynamicCache([*zip(self.keys, self.values, strict=True)])


def pairs_of(mask: Tensor, prefix: Prefix | None, causal: bool) -> Tensor:
    """(B, 1, L, S) bool: which token may read which."""
    if mask.dim() > 2:
        return (mask if mask.dim() == 4 else mask[:, None]) != 0
    length = mask.shape[1]
    pairs = (mask != 0)[:, None, None].expand(-1, 1, length, -1)
    if causal:
        pairs = pairs & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    if prefix is not None:
        pairs = torch.cat([prefix.mask[:, None, None].expand(-1, 1, length, -1), pairs], -1)
    return pairs


def additive(pairs: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a token may read another and the lowest number elsewhere: finite, so that padding gives no NaN."""
    return torch.zeros(pairs.shape, dtype=dtype, device=pairs.device).masked_fill(
        ~pairs, torch.finfo(dtype).min
    )


@contextmanager
def layer_range(inner: Any, layers: slice) -> Iterator[None]:
    """The model with some of its layers, and the last norm where they include the last one."""
    if not (hasattr(inner, "layers") and hasattr(inner, "norm")):
        raise RecloomError(
            f"ranges of layers need a model with `layers` and `norm`, such as Llama, Qwen or Gemma; "
            f"{type(inner).__name__} has not"
        )
    if len(set(getattr(inner.config, "layer_types", None) or ["one"])) > 1:
        raise RecloomError(
            f"the layers of {type(inner).__name__} differ in kind, so no range of them can be computed"
        )
    every, norm = inner.layers, inner.norm
    chosen = range(len(every))[layers]
    if chosen.step != 1 or not len(chosen):
        raise RecloomError(f"layers is a range of 0 to {len(every)} with step 1; found {layers}")
    try:
        inner.layers = every[chosen.start : chosen.stop]
        if chosen.stop < len(every):
            inner.norm = nn.Identity()
        yield
    finally:
        inner.layers, inner.norm = every, norm
