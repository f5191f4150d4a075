"""Results of tests: files, intervals, significance, comparison. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .results import METRICS_FILE as METRICS_FILE
    from .results import Results as Results
    from .results import read_per_user as read_per_user
    from .results import read_results as read_results
    from .significance import LEVEL as LEVEL
    from .significance import holm as holm
    from .significance import intervals as intervals
    from .significance import paired_difference as paired_difference

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "results": "METRICS_FILE Results read_per_user read_results",
        "significance": "LEVEL holm intervals paired_difference",
    },
)
