"""`recloom fit|validate|test|predict` and the same in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .fit import run_command as run_command

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "fit": "run_command",
    },
)
