"""Hook implementations; models are imported inside the hook bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recloom.plugins import hookimpl

if TYPE_CHECKING:
    from recloom.language import LanguageModel, TextEncoder
    from recloom.losses import Loss
    from recloom.prompts import PromptTemplate
    from recloom.recommender import Recommender
    from recloom.text_metrics import TextMetric


@hookimpl
def register_models() -> list[type[Recommender]]:
    from .kar import KAR
    from .text_mean import TextMean
    from .text_projection import TextProjection

    return [KAR, TextMean, TextProjection]


@hookimpl
def register_losses() -> list[type[Loss]]:
    from .cold_start import ColdStart
    from .seralm_loss import SampledTexts

    return [ColdStart, SampledTexts]


@hookimpl
def register_prompts() -> list[PromptTemplate]:
    from recloom.prompts import load_prompts

    return load_prompts(__package__)


@hookimpl
def register_commands() -> list[Callable[..., None]]:
    from .embed import embed
    from .encoder_command import export
    from .profile import profile
    from .seralm import rounds, texts
    from .simulate import simulate
    from .summarize import summarize

    return [embed, export, profile, rounds, simulate, summarize, texts]


@hookimpl
def register_metrics() -> list[TextMetric]:
    from .text_metrics import text_metrics

    return text_metrics()


@hookimpl
def register_language_models() -> list[type[LanguageModel] | type[TextEncoder]]:
    from .onnx_encoder import OnnxTextEncoder
    from .sentence_transformers import SentenceTransformers

    return [OnnxTextEncoder, SentenceTransformers]
