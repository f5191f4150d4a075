"""Training-free recommenders that every other one is measured against."""

from __future__ import annotations

from ..recommender import Recommender
from .ease import EASE
from .item_knn import ItemKNN
from .popularity import Popularity
from .random import Random

__all__ = ["EASE", "ItemKNN", "Popularity", "Random", "core_models"]


def core_models() -> list[type[Recommender]]:
    """The recommenders of core, for the hook."""
    return [Random, Popularity, ItemKNN, EASE]
