"""Invented datasets with a known structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...plugins import lazy_names

if TYPE_CHECKING:
    from .generator import World as World
    from .generator import synthesise as synthesise

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "generator": "World synthesise",
    },
)
