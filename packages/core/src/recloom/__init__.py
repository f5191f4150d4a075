"""Recloom: every way of using language models for recommendation is a plugin.

`recloom.fit(...)` trains a run, `recloom.load(run).recommend(history=[...])` uses it, `recloom.compare(...)`
holds runs against each other. All of it is loaded when first used, so that `import recloom` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .command import command
from .errors import DataError, PluginError, RecloomError
from .plugins import collect, hookimpl

if TYPE_CHECKING:
    from .batch import Batch
    from .data.catalog import Catalog
    from .data.interactions import Interactions
    from .data.module import RecDataModule
    from .evaluation.compare import compare
    from .losses import Loss
    from .module import RecModule
    from .recommender import ExportSpec, Queries, Recommender, VectorRecommender
    from .run import Run, load
    from .training import fit

__version__ = "0.1.0"

_LAZY = {
    "Batch": "batch",
    "Catalog": "data.catalog",
    "ExportSpec": "recommender",
    "Interactions": "data.interactions",
    "Loss": "losses",
    "Queries": "recommender",
    "RecDataModule": "data.module",
    "RecModule": "module",
    "Recommender": "recommender",
    "Run": "run",
    "VectorRecommender": "recommender",
    "compare": "evaluation.compare",
    "fit": "training",
    "load": "run",
}

__all__ = [
    "Batch",
    "Catalog",
    "DataError",
    "ExportSpec",
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
    "collect",
    "command",
    "compare",
    "fit",
    "hookimpl",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
