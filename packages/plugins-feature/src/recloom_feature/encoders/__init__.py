"""Text encoders: sentence-transformers, ONNX folders and their export; `recloom embed`, `recloom encoder export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .command import embed as embed
    from .export import export_encoder as export_encoder
    from .onnx import OnnxTextEncoder as OnnxTextEncoder
    from .sentence_transformers import SentenceTransformers as SentenceTransformers

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "command": "embed",
        "export": "export_encoder",
        "onnx": "OnnxTextEncoder",
        "sentence_transformers": "SentenceTransformers",
    },
)
