"""Recloom: every way of using language models for recommendation is a plugin.

`recloom.fit(...)` trains a run, `recloom.load(run).recommend(history=[...])` uses it, `recloom.compare(...)`
holds runs against each other. All of it is loaded when first used, so that `import recloom` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .command import command
from .errors import DataError, PluginError, RecloomError
from .plugins import collect, hookimpl, lazy_names

if TYPE_CHECKING:
    from .batch import Batch
    from .data.batches.module import RecDataModule
    from .data.catalog import Catalog
    from .data.interactions import Interactions
    from .evaluation.compare import compare
    from .experiments.many_fits import Bench, bench
    from .fitting.fit import fit
    from .losses import Loss
    from .recommender import ExportSpec, GenerativeRecommender, Queries, Recommender, VectorRecommender
    from .runs.run import Run, load
    from .training.module import RecModule

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Bench",
    "Catalog",
    "DataError",
    "ExportSpec",
    "GenerativeRecommender",
    "Interactions",
    "Loss",
    "PluginError",
    "Queries",
    "RecDataModule",
    "RecModule",
    "RecloomError",
    "Recommender",
    "Run",
    "VectorRecommender",
    "__version__",
    "bench",
    "collect",
    "command",
    "compare",
    "fit",
    "hookimpl",
    "load",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "batch": "Batch",
        "experiments.many_fits": "Bench bench",
        "data.batches.module": "RecDataModule",
        "data.catalog": "Catalog",
        "data.interactions": "Interactions",
        "evaluation.compare": "compare",
        "fitting.fit": "fit",
        "losses": "Loss",
        "recommender": "ExportSpec GenerativeRecommender Queries Recommender VectorRecommender",
        "runs.run": "Run load",
        "training.module": "RecModule",
    },
)
