"""Hook implementations; models are imported inside the hook bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recloom.plugins import hookimpl

if TYPE_CHECKING:
    from recloom.llm import LanguageModel, PromptTemplate, TextEncoder
    from recloom.losses import Loss
    from recloom.metrics import TextMetric
    from recloom.recommender import Recommender


@hookimpl
def register_models() -> list[type[Recommender]]:
    from .models.kar import KAR
    from .models.text_mean import TextMean
    from .models.text_projection import TextProjection

    return [KAR, TextMean, TextProjection]


@hookimpl
def register_losses() -> list[type[Loss]]:
    from .seralm.loss import SampledTexts
    from .simulate.loss import ColdStart

    return [ColdStart, SampledTexts]


@hookimpl
def register_prompts() -> list[PromptTemplate]:
    from recloom.llm import load_prompts

    return load_prompts(__package__)


@hookimpl
def register_commands() -> list[Callable[..., None]]:
    from .encoders.command import embed, export
    from .profile.command import profile
    from .seralm.command import rounds, texts
    from .simulate.command import simulate
    from .summarize.command import summarize
    from .text_metrics.command import text_metrics

    return [embed, export, profile, rounds, simulate, summarize, text_metrics, texts]


@hookimpl
def register_metrics() -> list[TextMetric]:
    from .text_metrics.registered import all_text_metrics

    return all_text_metrics()


@hookimpl
def register_language_models() -> list[type[LanguageModel] | type[TextEncoder]]:
    from .encoders.onnx import OnnxTextEncoder
    from .encoders.sentence_transformers import SentenceTransformers

    return [OnnxTextEncoder, SentenceTransformers]
