"""Hook implementations; models are imported inside the hook bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recloom.plugins import hookimpl

if TYPE_CHECKING:
    from recloom.language import LanguageModel, TextEncoder
    from recloom.recommender import Recommender
    from recloom.text_metrics import TextMetric


@hookimpl
def register_models() -> list[type[Recommender]]:
    from .text_mean import TextMean

    return [TextMean]


@hookimpl
def register_commands() -> list[Callable[..., None]]:
    from .embed import embed
    from .encoder_command import export

    return [embed, export]


@hookimpl
def register_language_models() -> list[type[LanguageModel] | type[TextEncoder]]:
    from .onnx_encoder import OnnxTextEncoder
    from .sentence_transformers import SentenceTransformers

    return [OnnxTextEncoder, SentenceTransformers]


@hookimpl
def register_metrics() -> list[TextMetric]:
    from .text_metrics import text_metrics

    return text_metrics()
