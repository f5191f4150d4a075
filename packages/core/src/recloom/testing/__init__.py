"""For authors of plugins: contracts as test classes, and toys whose right answer is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .contract import RecommenderTests as RecommenderTests
    from .language_model import LanguageModelTests as LanguageModelTests
    from .language_model import TextEncoderTests as TextEncoderTests
    from .loss import LossTests as LossTests
    from .reader import ReaderTests as ReaderTests
    from .toys import checkerboard as checkerboard
    from .toys import cyclic_dataset as cyclic_dataset
    from .toys import toy_dataset as toy_dataset
    from .training import train as train

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "contract": "RecommenderTests",
        "language_model": "LanguageModelTests TextEncoderTests",
        "loss": "LossTests",
        "reader": "ReaderTests",
        "toys": "checkerboard cyclic_dataset toy_dataset",
        "training": "train",
    },
)
