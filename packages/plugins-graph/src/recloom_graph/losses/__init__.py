"""Contrastive losses between views of a graph, and RLMRec's losses between graph and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .contrast import DroppedEdges as DroppedEdges
    from .contrast import NoisyViews as NoisyViews
    from .rlmrec import RLMRecCon as RLMRecCon
    from .rlmrec import RLMRecGen as RLMRecGen

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "contrast": "DroppedEdges NoisyViews",
        "rlmrec": "RLMRecCon RLMRecGen",
    },
)
