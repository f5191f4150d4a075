"""InfoNCE over cosines, and the checks that contrastive losses of graph models share."""

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


def require_graph_model(recommender: Recommender, loss: object) -> LightGCN:
    """The recommender as a LightGCN; raises RecloomError for any other model."""
    if not isinstance(recommender, LightGCN):
        raise RecloomError(
            f"{type(loss).__name__} needs a graph model; found {type(recommender).__name__}. "
            "Choose LightGCN, SimGCL or SGL, or leave out --model.loss."
        )
    return recommender


def require_positive(name: str, value: float) -> None:
    """Raise RecloomError where the value is not above 0."""
    if not value > 0:
        raise RecloomError(f"{name} must be above 0; found {value}")


def view_contrast(
    one: Tensor, other: Tensor, nodes: Tensor, temperature: float, pool: Tensor | None = None
) -> Tensor:
    """InfoNCE between two views (N, d) of some nodes, each against the nodes of a pool in the other view.

    Args:
        nodes: (n,) distinct.
        pool: (M,) sorted, the nodes among them; None = the nodes.
    """
    if pool is None:
        return info_nce(one[nodes], other[nodes], torch.arange(len(nodes), device=nodes.device), temperature)
    return info_nce(one[nodes], other[pool], torch.searchsorted(pool, nodes), temperature)
