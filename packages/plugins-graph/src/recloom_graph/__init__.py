"""Hook implementations; models are imported inside the hook bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recloom.plugins import hookimpl

if TYPE_CHECKING:
    from recloom.llm import PromptTemplate
    from recloom.losses import Loss
    from recloom.recommender import Recommender
    from recloom.training import TaskModule


@hookimpl
def register_models() -> list[type[Recommender]]:
    from .models.contrastive import SGL, SimGCL
    from .models.gacllm import GaCLLM
    from .models.lightgcn import LightGCN
    from .pagerank.recommender import PersonalizedPageRank

    return [LightGCN, SimGCL, SGL, GaCLLM, PersonalizedPageRank]


@hookimpl
def register_modules() -> list[type[TaskModule]]:
    from .property.graph_property import GraphProperty
    from .property.node_property import NodeProperty

    return [NodeProperty, GraphProperty]


@hookimpl
def register_losses() -> list[type[Loss]]:
    from .losses.contrast import DroppedEdges, NoisyViews
    from .losses.rlmrec import RLMRecCon, RLMRecGen

    return [NoisyViews, DroppedEdges, RLMRecCon, RLMRecGen]


@hookimpl
def register_prompts() -> list[PromptTemplate]:
    from recloom.llm import load_prompts

    return load_prompts(__package__)


@hookimpl
def register_commands() -> list[Callable[..., None]]:
    from .embedding.command import embed
    from .pagerank.command import pagerank
    from .property.command import predict
    from .texts.encode_command import encode
    from .texts.profile_command import profile
    from .texts.refine_command import refine

    return [embed, encode, pagerank, predict, profile, refine]
