"""Metrics of generated texts: `recloom text-metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .command import text_metrics as text_metrics
    from .measure import TextResults as TextResults
    from .measure import TextValue as TextValue
    from .registered import all_text_metrics as all_text_metrics
    from .tables import Columns as Columns
    from .tables import read_texts as read_texts

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "command": "text_metrics",
        "measure": "TextResults TextValue",
        "registered": "all_text_metrics",
        "tables": "Columns read_texts",
    },
)
