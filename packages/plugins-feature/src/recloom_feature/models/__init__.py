"""Recommenders that read texts of items and users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .kar import KAR as KAR
    from .text_mean import TextMean as TextMean
    from .text_projection import TextProjection as TextProjection

__getattr__, __dir__ = lazy_names(
    __name__, {"kar": "KAR", "text_mean": "TextMean", "text_projection": "TextProjection"}
)
