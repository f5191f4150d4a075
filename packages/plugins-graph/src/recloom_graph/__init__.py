"""Hook implementations; models are imported inside the hook bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recloom.plugins import hookimpl

if TYPE_CHECKING:
    from recloom.losses import Loss
    from recloom.prompts import PromptTemplate
    from recloom.recommender import Recommender
    from recloom.standalone import StandaloneModule


@hookimpl
def register_models() -> list[type[Recommender]]:
    from .gacllm import GaCLLM
    from .lightgcn import LightGCN
    from .pagerank import PersonalizedPageRank
    from .sgl import SGL
    from .simgcl import SimGCL

    return [LightGCN, SimGCL, SGL, GaCLLM, PersonalizedPageRank]


@hookimpl
def register_modules() -> list[type[StandaloneModule]]:
    from .property.graph_property import GraphProperty
    from .property.node_property import NodeProperty

    return [NodeProperty, GraphProperty]


@hookimpl
def register_losses() -> list[type[Loss]]:
    from .contrast import DroppedEdges, NoisyViews
    from .rlmrec import RLMRecCon, RLMRecGen

    return [NoisyViews, DroppedEdges, RLMRecCon, RLMRecGen]


@hookimpl
def register_prompts() -> list[PromptTemplate]:
    from recloom.prompts import load_prompts

    return load_prompts(__package__)


@hookimpl
def register_commands() -> list[Callable[..., None]]:
    from .embedding.embed_command import embed
    from .encode_command import encode
    from .pagerank_command import pagerank
    from .profile_command import profile
    from .property.predict_command import predict
    from .refine_command import refine

    return [embed, encode, pagerank, predict, profile, refine]
