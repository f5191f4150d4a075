"""Baselines without training: random, popularity, likes, item neighbours, EASE; click models in `ctr`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names
from ..recommender import Recommender
from .ease import EASE
from .item_knn import ItemKNN
from .like_share import LikeShare
from .popularity import Popularity
from .random import Random
from .title_rate import TitleRate

if TYPE_CHECKING:
    from .cooccurrence import cooccurrence_counts as cooccurrence_counts

__all__ = ["EASE", "ItemKNN", "LikeShare", "Popularity", "Random", "TitleRate", "core_models"]


def core_models() -> list[type[Recommender]]:
    """The recommenders of core, for the hook."""
    return [Random, Popularity, LikeShare, TitleRate, ItemKNN, EASE]


__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "cooccurrence": "cooccurrence_counts",
    },
)
