"""Simulated preferences between cold items, and the loss that learns from them; `recloom simulate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .loss import ColdStart as ColdStart
    from .preferences import Simulated as Simulated
    from .preferences import read_simulated as read_simulated

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "loss": "ColdStart",
        "preferences": "Simulated read_simulated",
    },
)
