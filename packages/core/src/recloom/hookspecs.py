"""Every extension point. All hooks take no argument and return an iterable; every plugin answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pluggy import HookspecMarker

if TYPE_CHECKING:
    from .data.readers import Reader
    from .llm import LanguageModel, TextEncoder
    from .llm.prompts import PromptTemplate
    from .losses import Loss
    from .metrics import Metric
    from .metrics.text import TextMetric
    from .recommender import Recommender
    from .runs.artefacts import Artefacts
    from .runs.server_stages import ServerStage
    from .training.task import TaskModule

hookspec = HookspecMarker("recloom")


@hookspec
def register_models() -> Iterable[type[Recommender]]:  # type: ignore[empty-body]
    """Return recommenders; the class name is the public name (`--model.recommender SASRec`)."""


@hookspec
def register_modules() -> Iterable[type[TaskModule]]:  # type: ignore[empty-body]
    """Return modules that are no recommenders; the class name is the public name (`--model NodeProperty`)."""


@hookspec
def register_losses() -> Iterable[type[Loss]]:  # type: ignore[empty-body]
    """Return training losses; the class name is the public name (`--model.loss GBCE`)."""


@hookspec
def register_prompts() -> Iterable[PromptTemplate]:  # type: ignore[empty-body]
    """Return prompt templates, usually `load_prompts(__package__)`."""


@hookspec
def register_readers() -> Iterable[type[Reader]]:  # type: ignore[empty-body]
    """Return readers of raw data formats, known to `recloom data prepare` by their `name`."""


@hookspec
def register_language_models() -> Iterable[type[LanguageModel] | type[TextEncoder]]:  # type: ignore[empty-body]
    """Return language models and text encoders; the class name is the public name."""


@hookspec
def register_metrics() -> Iterable[Metric | TextMetric]:  # type: ignore[empty-body]
    """Return metrics, known by their `name`: of rankings (`--model.metrics '[ndcg, recall]'`) and of texts
    (`recloom text-metrics FILE --metrics bleu@4`).
    """


@hookspec
def register_artefacts() -> Iterable[Artefacts]:  # type: ignore[empty-body]
    """Return who writes and reads exported files, known by their ending (`recommend --artefact model.onnx`)."""


@hookspec
def register_server_stages() -> Iterable[type[ServerStage]]:  # type: ignore[empty-body]
    """Return stages that change the lists of a server, known by their `name` (`recloom serve MODEL --stages NAME`)."""


@hookspec
def register_commands() -> Iterable[Callable[..., None]]:  # type: ignore[empty-body]
    """Return functions marked with `@command`; the signature becomes the options of `recloom <name>`."""
