"""InfoNCE over cosines, and what a contrastive loss asks of a graph model."""

from __future__ import annotations

import torch
from recloom.errors import RecloomError
from recloom.nn import linear_cross_entropy
from recloom.recommender import Recommender
from torch import Tensor
from torch.nn.functional import normalize

from ..models.lightgcn import LightGCN


def info_nce(
    anchors: Tensor, pool: Tensor, places: Tensor, temperature: float, counts: Tensor | None = None
) -> Tensor:
    """Mean over n of -cos(a_n, p_n)/t + log sum over j of exp(cos(a_n, p_j)/t), p_n being row places_n of the pool.

    Args:
        anchors: (N, d).
        pool: (M, d); in blocks, so that memory does not grow with N x M.
        places: (N,) int64 row of each anchor's partner.
        counts: (N,) how often each anchor counts in the mean; None = once.
    """
    queries = normalize(anchors, dim=1) / temperature
    return linear_cross_entropy(queries, normalize(pool, dim=1), places, weights=counts)


def graph_model(recommender: Recommender, loss: object) -> LightGCN:
    """The recommender, if it is one that smooths vectors over a graph; anything else is a RecloomError."""
    if not isinstance(recommender, LightGCN):
        raise RecloomError(
            f"{type(loss).__name__} looks into a graph model, and {type(recommender).__name__} is none. "
            "Choose LightGCN, SimGCL or SGL, or leave out --model.loss."
        )
    return recommender


def above(name: str, value: float) -> None:
    """RecloomError for a temperature or the like that is not above 0."""
    if not value > 0:
        raise RecloomError(f"{name} must be above 0; found {value}")


def two_views(one: Tensor, other: Tensor, nodes: Tensor, temperature: float) -> Tensor:
    """InfoNCE between two views (N, d) of some nodes, each against all these nodes in the other view."""
    return info_nce(one[nodes], other[nodes], torch.arange(len(nodes), device=nodes.device), temperature)
