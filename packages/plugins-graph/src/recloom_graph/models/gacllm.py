"""GaCLLM: Large Language Model with Graph Convolution for Recommendation (Du et al., arXiv 2402.08859).

A reconstruction from the paper's abstract and notes on it; there is no public code, and no published figure was
compared. Its stages: (1) a language model is fine-tuned on descriptions of matched pairs: not part of this package;
(2) it refines the texts T^0..T^L over the graph: `recloom graph refine`; (3) and (4), here, fuse texts and ids:

    h^l = e^l + P t^l                                              t^l: vector of the text T^l, 0 without text
    e_u^(l+1) = W^l sum over i in N(u) of h_i^l / sqrt(|N(u)| |N(i)|)    and the same for items
    x = MLP(sum over l = 0..K of h^l), or of the h^l side by side        s(u, i) = x_u . x_i

Texts of one layer alone, such as raw ones, serve all layers: then it is a graph network over texts and ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import torch
from recloom.batch import Batch
from recloom.data import VECTOR, Catalog
from recloom.errors import RecloomError
from recloom.recommender import ExportSpec, Search
from torch import Tensor, nn

from ..graphs.backends import Backend, Product
from .lightgcn import LightGCN, ServingQuery, ServingTables
from .propagation import propagate


class GaCLLM(LightGCN):
    """Graph convolution over ids and over texts that a language model refined layer by layer (a reconstruction).

    Reads the vectors of `recloom graph encode`, of items and, where there are any, of users. Neither is needed to
    serve. A user without training interactions is known by text and history.

    Args:
        catalog: items and users with vectors.
        dim: size of the vectors.
        num_layers: K, how many hops vectors travel, at least as many as texts were refined; texts beyond the last
            refined layer are those of that layer.
        combine: whether the layers are added up (`sum`) or put side by side (`concat`).
        mlp: whether a network of two layers comes after that; without it the vectors are matched as they are.
        backend: which library multiplies with the graph, see `backends`.
    """

    texts: Tensor
    """(N, T, d_t) of users and then of items, T layers; not in the state: rebuilt with the catalogue."""

    def __init__(
        self,
        catalog: Catalog,
        dim: int = 64,
        num_layers: int = 2,
        combine: Literal["sum", "concat"] = "sum",
        mlp: bool = True,
        backend: Backend = "torch",
    ) -> None:
        super().__init__(catalog, dim, num_layers, backend=backend)
        self.combine = combine
        self.register_buffer("texts", _texts(catalog, num_layers), persistent=False)
        size = self.texts.shape[2]
        self.project = nn.Linear(size, dim, bias=False)  # P; without text nothing is added
        nn.init.normal_(self.project.weight, std=0.1 * (dim / size) ** 0.5)
        transforms = [nn.Linear(dim, dim, bias=False) for _ in range(num_layers)]
        for transform in transforms:
            nn.init.eye_(transform.weight)  # training begins at LightGCN's smoothing
        self.transforms = nn.ModuleList(transforms)  # W^l
        width = dim * (num_layers + 1 if combine == "concat" else 1)
        self.mlp = _mlp(width, dim) if mlp else nn.Identity()

    @property
    def tells_cold_items(self) -> bool:
        return True

    def extend(self, catalog: Catalog) -> None:
        """Not possible: a new item has no refined texts."""
        raise RecloomError(
            "GaCLLM reads texts that were refined over the training graph, which does not hold new items. Refine and "
            "encode the texts of data that hold them, and train a new run."
        )

    def view(self, other: Product | None = None, noise: float = 0.0) -> Tensor:
        """(N, d) final vectors, also under another matrix of the same nodes; noise between layers is refused."""
        if noise:
            raise RecloomError(
                "NoisyViews moves the vectors of LightGCN and SimGCL, and those of GaCLLM are made otherwise. Use "
                "--model.loss DroppedEdges for contrast between views."
            )
        found: Tensor = self.mlp(self._combined(self._layers(other)))
        return found

    def query(self, batch: Batch) -> Tensor:
        found: Tensor = self.mlp(super().query(batch))
        return found

    def export(self) -> ExportSpec:
        """A graph over plain tables and the last network: propagation and texts are done beforehand."""
        final = self._compute_tables()
        search = Search(ServingQuery(final, self.mlp), final.items[1:].detach())
        return ExportSpec(ServingScorer(final, self.mlp), self.inputs, self.max_len, search)

    def _layers(self, other: Product | None = None) -> list[Tensor]:
        """h^0 to h^K, each (N, d)."""
        product = other or self.product()
        e, found = self.layer0(), []
        for layer in range(self.num_layers + 1):
            found.append(e + self._text_vectors(layer))
            if layer < self.num_layers:
                e = self.transforms[layer](propagate(product, found[-1].float(), 1, 1))
        return found

    def _text_vectors(self, layer: int) -> Tensor:
        """(N, d) P t^l."""
        found: Tensor = self.project(self.texts[:, min(layer, self.texts.shape[1] - 1)])
        return found

    def _combined(self, layers: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(layers), 1) if self.combine == "concat" else torch.stack(list(layers)).sum(0)

    def _compute_tables(self) -> ServingTables:
        """Tables before the last network for users, and after it for items.

        A cold-start user u has h_u^0 = P t_u^0 and
        h_u^(l+1) = |H|^-1/2 sum over i in H of W^l h_i^l / sqrt(d_i) + P t_u^(l+1).
        """
        h = self._layers()
        users, items = self.halves(self._combined(h))
        degree = self.graph.degree()
        in_graph, edges = degree[: self.num_users + 1] > 0, degree[self.num_users + 1 :, None]
        onward = [transform(layer) for transform, layer in zip(self.transforms, h, strict=False)]
        reach = self.halves(self._combined([torch.zeros_like(h[0]), *onward]))[1]
        own = self.halves(
            self._combined([self._text_vectors(layer) for layer in range(self.num_layers + 1)])
        )[0]
        users = torch.where(in_graph[:, None], users, own)
        reach = reach * edges.clamp(min=1).rsqrt() * (edges > 0)
        return TextServingTables(users, self.mlp(items), reach, in_graph)


class TextServingTables(ServingTables):
    """`ServingTables` where a user outside of the graph is the vector of their text plus the folded-in history."""

    def query(self, user: Tensor, history: Tensor) -> Tensor:
        own = self.users[user]
        return torch.where(self.in_graph[user][:, None], own, own + self.fold_in(history))


class ServingScorer(nn.Module):
    """Scores of all items from the serving tables and the last network."""

    def __init__(self, final: ServingTables, mlp: nn.Module) -> None:
        super().__init__()
        self.final, self.mlp = final, mlp

    def forward(self, user: Tensor, history: Tensor) -> Tensor:
        """(B,) users and (B, L) histories to (B, num_items) scores of items 1..num_items."""
        scores: Tensor = self.mlp(self.final.query(user, history)) @ self.final.items[1:].T
        return scores


def _mlp(width: int, dim: int) -> nn.Sequential:
    """A network of two layers without biases, so that a user without text and history keeps the vector 0."""
    into, onward = nn.Linear(width, dim, bias=False), nn.Linear(dim, dim, bias=False)
    for layer in (into, onward):
        nn.init.xavier_uniform_(layer.weight)
    return nn.Sequential(into, nn.LeakyReLU(), onward)


def _texts(catalog: Catalog, num_layers: int) -> Tensor:
    """(N, T, d_t) vectors of users and items, T layers as recorded in the file of the items' vectors, else 1."""
    items = torch.from_numpy(catalog.vectors())
    users = items.new_zeros(catalog.num_users + 1, items.shape[1])
    if VECTOR in catalog.users.columns:
        users = torch.from_numpy(catalog.user_vectors())
    if users.shape[1] != items.shape[1]:
        raise RecloomError(
            f"GaCLLM needs vectors of users and items of one size; found {users.shape[1]} for users and "
            f"{items.shape[1]} for items. Take both files from one `recloom graph encode`."
        )
    made_by = json.loads(catalog.encoder) if catalog.encoder else {}
    layers = int(made_by.get("layers", 1))
    if layers > num_layers + 1:
        raise RecloomError(
            f"the vectors hold texts of {layers} layers, and GaCLLM with num_layers {num_layers} reads "
            f"{num_layers + 1}. Set --model.recommender.num_layers {layers - 1}, or refine with --layers {num_layers}."
        )
    both = torch.cat([users, items])
    return both.reshape(len(both), layers, -1)
