"""Click models (CTR): the probability of a positive label from fields of user, item and history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...plugins import lazy_names
from ...recommender import Recommender
from .dcnv2 import DCNv2
from .deepfm import DeepFM
from .din import DIN

if TYPE_CHECKING:
    from .click_model import ClickModel as ClickModel

__all__ = ["DIN", "DCNv2", "DeepFM", "click_models"]


def click_models() -> list[type[Recommender]]:
    """The click models of core, for the hook."""
    return [DIN, DCNv2, DeepFM]


__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "click_model": "ClickModel",
    },
)
