"""Graph recommenders: LightGCN, SGL, SimGCL and GaCLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .contrastive import SGL as SGL
    from .contrastive import SimGCL as SimGCL
    from .gacllm import GaCLLM as GaCLLM
    from .lightgcn import LightGCN as LightGCN

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "contrastive": "SGL SimGCL",
        "gacllm": "GaCLLM",
        "lightgcn": "LightGCN",
    },
)
