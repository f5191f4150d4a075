"""Hook implementations; models are imported inside the hook bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import hookimpl

if TYPE_CHECKING:
    from recloom.recommender import Recommender


@hookimpl
def register_models() -> list[type[Recommender]]:
    from .lightgcn import LightGCN
    from .pagerank import PersonalizedPageRank

    return [LightGCN, PersonalizedPageRank]
