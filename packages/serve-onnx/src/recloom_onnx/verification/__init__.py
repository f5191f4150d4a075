"""Comparison of an exported file with the recommender that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .cases import sample as sample
    from .reference import Reference as Reference
    from .reference import reference_scores as reference_scores
    from .reference import served_scores as served_scores
    from .verify import verify_artefact as verify_artefact

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "cases": "sample",
        "reference": "Reference reference_scores served_scores",
        "verify": "verify_artefact",
    },
)
