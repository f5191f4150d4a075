"""LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation (He et al., SIGIR 2020).

Vectors e^(0) of users and items are smoothed over the interaction graph, e^(k+1) = D^-1/2 A D^-1/2 e^(k),
without self-loops, weights or nonlinearity. The final vector is the mean of the layers 0..K; the score is
the inner product. K = 0 is matrix factorisation.

Losses beside BPR read the model through four methods: `tables` are the final vectors of the current step,
`layer0` their input, `view` the final vectors under another matrix or with noise, and `masked` hides nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from recloom.batch import Batch
from recloom.data import Catalog, Interactions
from recloom.data.batches import PairRows, Rows
from recloom.errors import at_least
from recloom.nn import ItemEmbedding, ItemInput
from recloom.recommender import ExportSpec, Queries, Search, VectorRecommender, multi_hot
from torch import Tensor, nn
from torch.nn.functional import embedding

from ..graphs.backends import Backend, Product, library, product
from ..graphs.dataset_graphs import bipartite
from ..graphs.sparse import StoredMatrix
from .propagation import propagate

if TYPE_CHECKING:
    from recloom.data.batches import RecDataModule


class LightGCN(VectorRecommender):
    """Matrix factorisation whose vectors are smoothed over the user-item graph.

    A user of the graph has a final vector of their own. Anyone else, such as a visitor whose history was
    typed in, is a cold-start user and is folded in from that history (see `ServingTables`).

    Args:
        catalog: items and users.
        dim: size of the vectors.
        num_layers: K, how many hops vectors travel; 0 is matrix factorisation, which cannot fold in.
        item_input: how items enter layer 0, see `recloom.nn.item_embedding`.
        backend: which library multiplies with the graph, see `backends`: the numbers are the same, and what one
            trained another goes on with.
        vectors: name of the vectors that are read, where `--data.vectors` gives several; by default the first.
    """

    inputs: ClassVar[tuple[str, ...]] = ("user", "history")
    default_loss: ClassVar[dict[str, Any] | str] = {"class_path": "BPR", "init_args": {"l2": 1e-4}}
    training_defaults: ClassVar[dict[str, Any]] = {"batch_size": 2048, "lr": 5e-3}
    demo: ClassVar[dict[str, Any] | None] = {"options": {"num_layers": 1}, "max_epochs": 30}
    first_layer: ClassVar[Literal[0, 1]] = 0
    """Of the layers whose mean is the final vector."""

    def __init__(
        self,
        catalog: Catalog,
        dim: int = 64,
        num_layers: int = 3,
        item_input: ItemInput = "id",
        backend: Backend = "torch",
        vectors: str | None = None,
    ) -> None:
        super().__init__(catalog)
        at_least(1, dim=dim)
        at_least(self.first_layer, num_layers=num_layers)
        library(backend)  # raises before the data are read where it is not installed
        self.backend: Backend = backend
        self.num_layers = num_layers
        self.users = _table(self.num_users + 1, dim)
        self.items = ItemEmbedding(catalog, dim, item_input, std=0.1, vectors=vectors)
        self.graph = StoredMatrix()
        self.final: ServingTables | None = None
        self._own: tuple[Tensor, Product] | None = None
        self._step: Tensor | None = None
        self._hidden: tuple[Tensor, Tensor] | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def training_rows(self, data: RecDataModule) -> Rows:
        """Pairs of user and item: the graph holds what else is known of the user."""
        return PairRows(data.train, data.pairs)

    def fit(self, interactions: Interactions) -> None:
        self.graph.store(bipartite(interactions).symmetric.to(self.users.weight.device))
        self.final = None

    @property
    def tells_cold_items(self) -> bool:
        return self.items.kind != "id"

    def knows_users(self, users: Tensor) -> Tensor:
        """Those with an edge; the others have the vector 0 without a history, by which all items would score alike."""
        found: Tensor = self._serving_tables().in_graph[users]
        return found

    def extend(self, catalog: Catalog) -> None:
        """New items are nodes without edges: of their layers 0 to K only layer 0 is not zero."""
        self.items.extend(catalog)
        self.graph.grow(catalog.num_items - self.num_items)
        self.num_items, self.final = catalog.num_items, None

    def training_queries(self, batch: Batch) -> Queries:
        """One propagation; `batch.labels[:, 0]` is the item of each pair."""
        self.final, self._step = None, None  # the weights are about to change, or have changed
        users, items = self.tables()
        return Queries(embedding(batch.user, users), batch.labels[:, 0], items, batch.user)

    def tables(self) -> tuple[Tensor, Tensor]:
        """ServingTables vectors (num_users + 1, d) and (num_items + 1, d), with gradients.

        Those of the last `training_queries`, until their backward pass begins: losses side by side share them.
        """
        if self._step is None:
            step = self.view()
            if not torch.is_grad_enabled():
                return self.halves(step)
            step.register_hook(self._end_step)  # type: ignore[no-untyped-call]
            self._step = step
        return self.halves(self._step)

    def layer0(self) -> Tensor:
        """(N, d) vectors of users, then of items, before any propagation; hidden ones replaced."""
        stacked = torch.cat([self.users.weight, self.items.table()])
        if self._hidden is None:
            return stacked
        nodes, token = self._hidden
        return stacked.index_copy(0, nodes, token.expand(len(nodes), -1))

    def view(self, other: Product | None = None, noise: float = 0.0) -> Tensor:
        """(N, d) final vectors as another matrix of the same nodes, or noise after each layer, would make them."""
        return propagate(other or self.product(), self.layer0(), self.num_layers, self.first_layer, noise)

    def product(self, matrix: Tensor | None = None) -> Product:
        """With a matrix of the same nodes, or with that of the graph, for which it is built once."""
        if matrix is not None:
            return product(matrix, self.backend)
        if self._own is None or self._own[0] is not self.graph.crow:  # another graph, or on another device
            self._own = self.graph.crow, product(self.graph.matrix(), self.backend)
        return self._own[1]

    def halves(self, stacked: Tensor) -> tuple[Tensor, Tensor]:
        """(N, d) to the rows of users and the rows of items."""
        return stacked[: self.num_users + 1], stacked[self.num_users + 1 :]

    @contextmanager
    def masked(self, nodes: Tensor, token: Tensor) -> Iterator[None]:
        """While it lasts, layer 0 of these (M,) nodes is the token (d,)."""
        self._hidden, self._step = (nodes, token), None
        try:
            yield
        finally:
            self._hidden, self._step = None, None

    def initial_vectors(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of layer 0. Shrinking the final vectors instead would lose the paper's figures."""
        return self.users(users), self.items(items)

    def query(self, batch: Batch) -> Tensor:
        final: Tensor = self._serving_tables().query(batch.user, batch.history)
        return final

    def item_vectors(self) -> Tensor:
        return self._serving_tables().items

    def export(self) -> ExportSpec:
        """A graph over plain tables: the propagation is done beforehand."""
        final = self._compute_tables()
        return ExportSpec(
            final, self.inputs, self.max_len, Search(ServingQuery(final), final.items[1:].detach())
        )

    def _serving_tables(self) -> ServingTables:
        """The final vectors: computed once in eval mode, anew at every call in training mode."""
        if self.training:
            self.final = None
            return self._compute_tables()
        if self.final is None:
            with torch.no_grad():
                self.final = self._compute_tables()
        return self.final

    def _compute_tables(self) -> ServingTables:
        users, items = self.halves(self.view())
        degree = self.graph.degree()
        in_graph, edges = degree[: self.num_users + 1] > 0, degree[self.num_users + 1 :, None]
        below = propagate(self.product(), self.layer0(), max(0, self.num_layers - 1))
        lower = self.halves(below)[1]  # mean of the layers 0..K-1 of items
        share = self.num_layers / (
            self.num_layers + 1 - self.first_layer
        )  # as part of the final mean; 0 for K = 0
        return ServingTables(users, items, share * lower * edges.clamp(min=1).rsqrt() * (edges > 0), in_graph)

    def _end_step(self, gradient: Tensor) -> None:
        """The backward pass frees what the vectors of a step were computed from."""
        self._step = None


class ServingTables(nn.Module):
    """Tables for serving a trained LightGCN without its graph.

    A cold-start user u with items H and no vector of their own (e_u^(0) = 0) would have, on the graph extended by u,

        e_u^(k+1) = sum over i in H of e_i^(k) / sqrt(|H| d_i)
        e_u = (1/(K+1)) sum over k = 0..K-1 of e_u^(k+1) = |H|^-1/2 sum over i in H of reach_i
        reach_i = d_i^-1/2 (1/(K+1)) sum over k = 0..K-1 of e_i^(k)    (1/K where layer 0 is left out of the mean)

    with e_i^(k) and the degree d_i as they are without u: first order in u, whose echo on the items is left
    out. For a user of the graph the value is exactly e_u - e_u^(0)/(K+1).

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
        """(B, L) histories to the (B, d) vectors of cold-start users; an item that occurs twice is one edge."""
        hot = multi_hot(history, self.items.shape[0] - 1)  # (B, num_items + 1)
        return hot @ self.reach * hot.sum(1, keepdim=True).clamp(min=1).rsqrt()

    def forward(self, user: Tensor, history: Tensor) -> Tensor:
        """(B, num_items) scores of items 1..num_items."""
        return self.query(user, history) @ self.items[1:].T


class ServingQuery(nn.Module):
    """(B, d) query vectors from (B,) users and (B, L) histories, and a network after that where there is one."""

    def __init__(self, final: ServingTables, mlp: nn.Module | None = None) -> None:
        super().__init__()
        self.final, self.mlp = final, mlp or nn.Identity()

    def forward(self, user: Tensor, history: Tensor) -> Tensor:
        found: Tensor = self.mlp(self.final.query(user, history))
        return found


def _table(rows: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(rows, dim, padding_idx=0)
    nn.init.normal_(table.weight, std=0.1)
    with torch.no_grad():
        table.weight[0] = 0
    return table


def _forget(model: LightGCN, _: object) -> None:
    """Drop what was computed from earlier weights; called after new ones are loaded."""
    model.final, model._own = None, None
