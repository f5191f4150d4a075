"""Recommendations for a whole file of requests, Parquet in and Parquet out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .run import BatchResult as BatchResult
    from .run import recommend_file as recommend_file

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "run": "BatchResult recommend_file",
    },
)
