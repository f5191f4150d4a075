"""Random scores, the same in every run: the floor of every comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..data.catalog import Catalog
from ..errors import RecloomError
from ..recommender import ExportSpec, Recommender

LOW = 0xFFFFFFFF


class Random(Recommender):
    """A pseudo-random score in [0, 1) that depends on the seed, the user, the history and the item.

    Args:
        catalog: the items.
        seed: another seed is another ranking.
    """

    inputs = ("user", "history")

    def __init__(self, catalog: Catalog, seed: int = 0) -> None:
        super().__init__(catalog)
        self.seed = seed

    @property
    def tells_cold_items(self) -> bool:
        return False

    def score(self, batch: Batch) -> Tensor:
        request = mix(mix(batch.user ^ (self.seed & LOW)) ^ fingerprint(batch.history))  # (B,)
        bits = mix(request[:, None] ^ mix(batch.candidates))  # (B, C)
        return (bits >> 8).float() / (1 << 24)  # 24 bits: all that float32 can tell apart

    def export(self) -> ExportSpec:
        raise RecloomError(
            "Random cannot be exported: its scores carry no information, and its wrapping integer arithmetic "
            "is not the same in every runtime. Export Popularity where a fallback is needed."
        )


def fingerprint(history: Tensor) -> Tensor:
    """(B, L) histories to (B,) 32-bit numbers; order matters, padding on the left does not."""
    age = torch.arange(history.shape[1] - 1, -1, -1, device=history.device)  # 0 = most recent
    return mix((mix(history + mix(age)) * (history > 0)).sum(1))


def mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers (held in int64) that spreads every bit (Wellons' lowbias32)."""
    x = x & LOW
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & LOW
    x = ((x ^ (x >> 15)) * 0x846CA68B) & LOW  # may wrap in int64; the low 32 bits stay right
    return x ^ (x >> 16)
