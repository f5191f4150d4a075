"""Trained runs: loaded, asked for recommendations, given new items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .artefacts import Artefacts as Artefacts
    from .run import Run as Run
    from .run import load as load

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "artefacts": "Artefacts",
        "run": "Run load",
    },
)
