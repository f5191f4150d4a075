"""From a trained recommender to an ONNX file, and to a model repository of Triton."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .export import export_artefact as export_artefact
    from .triton import write_triton as write_triton

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "export": "export_artefact",
        "triton": "write_triton",
    },
)
