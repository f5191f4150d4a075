"""LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation (He et al., SIGIR 2020).

Vectors e^(0) of users and items are smoothed over the interaction graph, e^(k+1) = D^-1/2 A D^-1/2 e^(k),
without self-loops, weights or nonlinearity. The final vector is the mean of the layers 0..K; the score is
the inner product. K = 0 is matrix factorisation.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import at_least
from recloom.item_embedding import ItemEmbedding, ItemInput
from recloom.recommender import ExportSpec, Queries, VectorRecommender, multi_hot
from torch import Tensor, nn
from torch.nn.functional import embedding

from .dataset_graphs import bipartite
from .propagation import propagate
from .sparse import StoredMatrix


class LightGCN(VectorRecommender):
    """Matrix factorisation whose vectors are smoothed over the user-item graph.

    A user of the graph has a final vector of their own. Anyone else, such as a visitor whose history was
    typed in, is folded in from that history (see `Final`).

    Args:
        catalog: items and users.
        dim: size of the vectors.
        num_layers: K, how many hops vectors travel; 0 is matrix factorisation, which cannot fold in.
        item_input: how items enter layer 0, see `recloom.item_embedding`.
    """

    inputs: ClassVar[tuple[str, ...]] = ("user", "history")
    examples: ClassVar[Literal["windows", "pairs"]] = "pairs"
    default_loss: ClassVar[dict[str, Any] | None] = {"class_path": "BPR", "init_args": {"l2": 1e-4}}

    def __init__(
        self, catalog: Catalog, dim: int = 64, num_layers: int = 3, item_input: ItemInput = "id"
    ) -> None:
        super().__init__(catalog)
        at_least(1, dim=dim)
        at_least(0, num_layers=num_layers)
        self.num_layers = num_layers
        self.users = _table(self.num_users + 1, dim)
        self.items = ItemEmbedding(catalog, dim, item_input, std=0.1)
        self.graph = StoredMatrix()
        self.final: Final | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def fit(self, interactions: Interactions) -> None:
        self.graph.store(bipartite(interactions).symmetric.to(self.users.weight.device))
        self.final = None

    def extend(self, catalog: Catalog) -> None:
        """New items are nodes without edges: of their layers 0 to K only layer 0 is not zero."""
        self.items.extend(catalog)
        self.graph.grow(catalog.num_items - self.num_items)
        self.num_items, self.final = catalog.num_items, None

    def training_queries(self, batch: Batch) -> Queries:
        """One propagation; `batch.labels[:, 0]` is the item of each pair."""
        self.final = None  # the weights are about to change
        users, items = self._propagated(self.num_layers)
        return Queries(embedding(batch.user, users), batch.labels[:, 0], items, batch.user)

    def initial_vectors(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of layer 0. Shrinking the final vectors instead would lose the paper's figures."""
        return self.users(users), self.items(items)

    def query(self, batch: Batch) -> Tensor:
        final: Tensor = self._final().query(batch.user, batch.history)
        return final

    def item_vectors(self) -> Tensor:
        return self._final().items

    def export(self) -> ExportSpec:
        """A graph over plain tables: the propagation is done beforehand."""
        return ExportSpec(self._computed(), self.inputs, self.max_len)

    def _final(self) -> Final:
        """The final vectors: computed once in eval mode, anew at every call in training mode."""
        if self.training:
            self.final = None
            return self._computed()
        if self.final is None:
            with torch.no_grad():
                self.final = self._computed()
        return self.final

    def _computed(self) -> Final:
        users, items = self._propagated(self.num_layers)
        degree = self.graph.degree()
        in_graph, edges = degree[: self.num_users + 1] > 0, degree[self.num_users + 1 :, None]
        lower = self._propagated(max(0, self.num_layers - 1))[1]  # mean of the layers 0..K-1 of items
        share = self.num_layers / (self.num_layers + 1)  # as part of the mean of K + 1 layers; 0 for K = 0
        return Final(users, items, share * lower * edges.clamp(min=1).rsqrt() * (edges > 0), in_graph)

    def _propagated(self, layers: int) -> tuple[Tensor, Tensor]:
        """Mean of the layers 0 to `layers`: (num_users + 1, d) of users, (num_items + 1, d) of items."""
        stacked = torch.cat([self.users.weight, self.items.table()])
        mean = propagate(self.graph.matrix(), stacked, layers)
        return mean[: self.num_users + 1], mean[self.num_users + 1 :]


class Final(nn.Module):
    """What serving needs of a trained LightGCN: tables without a graph.

    A newcomer u with items H and no vector of their own (e_u^(0) = 0) would have, on the graph extended by u,

        e_u^(k+1) = sum over i in H of e_i^(k) / sqrt(|H| d_i)
        e_u = (1/(K+1)) sum over k = 0..K-1 of e_u^(k+1) = |H|^-1/2 sum over i in H of reach_i
        reach_i = d_i^-1/2 (1/(K+1)) sum over k = 0..K-1 of e_i^(k)

    with e_i^(k) and the degree d_i as they are without u: first order in u, whose echo on the items is left
    out. For a user whom the graph holds nothing is left out, and the value is exactly e_u - e_u^(0)/(K+1).

    Args:
        users: (num_users + 1, d) final vectors.
        items: (num_items + 1, d) final vectors, row 0 is padding.
        reach: (num_items + 1, d) as above; 0 for padding and for items without an edge.
        in_graph: (num_users + 1,) bool, which users have a vector of their own.
    """

    users: Tensor
    items: Tensor
    reach: Tensor
    in_graph: Tensor

    def __init__(self, users: Tensor, items: Tensor, reach: Tensor, in_graph: Tensor) -> None:
        super().__init__()
        for name, table in {"users": users, "items": items, "reach": reach, "in_graph": in_graph}.items():
            self.register_buffer(name, table, persistent=False)

    def query(self, user: Tensor, history: Tensor) -> Tensor:
        """(B,) users and (B, L) histories to (B, d) query vectors."""
        return torch.where(self.in_graph[user][:, None], self.users[user], self.fold_in(history))

    def fold_in(self, history: Tensor) -> Tensor:
        """(B, L) histories to the (B, d) vectors of newcomers; an item that occurs twice is one edge."""
        hot = multi_hot(history, self.items.shape[0] - 1)  # (B, num_items + 1)
        return hot @ self.reach * hot.sum(1, keepdim=True).clamp(min=1).rsqrt()

    def forward(self, user: Tensor, history: Tensor) -> Tensor:
        """(B, num_items) scores of items 1..num_items."""
        return self.query(user, history) @ self.items[1:].T


def _table(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim, padding_idx=0)
    nn.init.normal_(table.weight, std=0.1)
    with torch.no_grad():
        table.weight[0] = 0
    return table


def _forget(model: LightGCN, _: object) -> None:
    """Weights were loaded, so vectors computed from others are void."""
    model.final = None
