"""For authors of recommenders: the contract as a test class, and toys whose right answer is known."""

from .contract import RecommenderTests
from .toys import checkerboard, cyclic_dataset, toy_dataset
from .training import train

__all__ = ["RecommenderTests", "checkerboard", "cyclic_dataset", "toy_dataset", "train"]
