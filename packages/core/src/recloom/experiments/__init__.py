"""Experiments: many fits in one table, models × datasets × seeds, resumable, in one process or several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .many_fits import Bench as Bench
    from .many_fits import bench as bench
    from .plan import BenchModel as BenchModel
    from .plan import BenchSpec as BenchSpec

__getattr__, __dir__ = lazy_names(__name__, {"many_fits": "Bench bench", "plan": "BenchSpec BenchModel"})
