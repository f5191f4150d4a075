"""SeRALM (reconstruction): which of several texts of an item helps; `recloom seralm texts` and `rounds`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .loss import SampledTexts as SampledTexts
    from .variants import Variants as Variants
    from .variants import posterior as posterior

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "loss": "SampledTexts",
        "variants": "Variants posterior",
    },
)
