"""RLMRec: Representation Learning with Large Language Models for Recommendation (Ren et al., WWW 2024).

A graph model learns beside frozen vectors s of texts about users and items, by either of two losses:

    RLMRecCon    s' = MLP(s), d_s -> (d_s + d) // 2 -> d
                 L = L_rank + weight * sum of -cos(e_n, s'_n)/t + log sum over the pool of exp(cos(e_n, s'_j)/t)
                     over the users of the batch (pool: all users), their items (pool: these items) and as many
                     negatives (pool: these negatives), divided by the number of pairs
    RLMRecGen    floor(ratio N) nodes are hidden: a learned token replaces them in layer 0
                 L = L_rank with them hidden + weight * mean over the hidden nodes n of
                     -cos(MLP(e_n), s_n)/t + log sum over the hidden j of exp(cos(MLP(e_n), s_j)/t),
                     MLP: d -> (d + d_s) // 2 -> d_s

The positive pair is a vector and the text of the SAME user or item. Nothing of this is needed to serve.

The formulas are those of the authors' code, whose Gen loss has a temperature and a weight that the paper has not.
Unlike there:
* Con draws negatives of its own, so that it stands beside any ranking loss; the code takes those of its BPR.
* The model beneath is the mean of its layers, as in LightGCN's paper; the code adds them up, which scales the scores.
* No edges are dropped from the graph; the code keeps a share of them (.8 of its configurations) in every step.
* An item that occurs twice in a batch is no negative of itself, and nodes without text are left out.
* Weight 0 and ratio 0 leave the ranking loss exactly as it is.
* The penalty on the size of vectors is that of the base loss alone: layer 0 of the batch, not all parameters.
"""

from __future__ import annotations

import torch
from recloom.batch import Batch
from recloom.data import VECTOR, Catalog, Interactions
from recloom.errors import RecloomError, at_least
from recloom.losses import Loss, own_loss
from recloom.recommender import Recommender
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from ..models.lightgcn import LightGCN
from .info_nce import info_nce, require_graph_model, require_positive


class SemanticLoss(Loss):
    """A ranking loss beside frozen vectors of users and items.

    Args:
        base: the ranking loss; None = the model's own, with its contrast if it has one.
        weight: of what is learnt from the vectors; 0 leaves the ranking loss as it is.
        temperature: of the softmax over cosines.
        shuffled: give every user the vector of another user and every item that of another item: the control
            that shows whether the texts matter.
    """

    vectors: Tensor
    """(N, d_s) of users and then of items, in the order of the nodes of the graph."""
    has_text: Tensor
    """(N,) bool, whose vector is not 0."""

    def __init__(self, base: Loss | None, weight: float, temperature: float, shuffled: bool) -> None:
        super().__init__()
        at_least(0, weight=weight)
        require_positive("temperature", temperature)
        self.base, self.weight, self.temperature, self.shuffled = base, weight, temperature, shuffled
        self.users_from_items = False
        self.register_buffer("vectors", torch.zeros(0, 0), persistent=False)
        self.register_buffer("has_text", torch.zeros(0, dtype=torch.bool), persistent=False)

    def prepare(self, recommender: Recommender, catalog: Catalog) -> None:
        """Read the vectors of `--data.vectors` and `--data.user_vectors`, and make the network for their size.

        Without vectors of users, a user's is the mean of those of the training items.
        """
        model = require_graph_model(recommender, self)
        if self.base is None:
            self.base = own_loss(recommender, type(self).__name__)
        self.base.prepare(recommender, catalog)
        items = torch.from_numpy(catalog.vectors())
        self.users_from_items = VECTOR not in catalog.users.columns
        users = items.new_zeros(catalog.num_users + 1, items.shape[1])
        if not self.users_from_items:
            users = torch.from_numpy(catalog.user_vectors())
        if users.shape[1] != items.shape[1]:
            raise RecloomError(
                f"{type(self).__name__} needs vectors of users and items of one size; found {users.shape[1]} for users "
                f"and {items.shape[1]} for items. Encode both texts with the same encoder."
            )
        self.vectors = torch.cat([users, items])
        dim = model.users.weight.shape[1]
        self.network = self.text_network(dim, items.shape[1])

    def text_network(self, dim: int, size: int) -> nn.Sequential:
        """The network between vectors of the model (dim) and of the texts (size)."""
        raise NotImplementedError(f"{type(self).__name__} must define text_network(dim, size)")

    def fit(self, interactions: Interactions) -> None:
        assert self.base is not None
        self.base.fit(interactions)
        first = interactions.num_users + 1
        if self.users_from_items:
            items, ends = interactions.pairs()[1], interactions.lengths.cumsum(0)
            starts = torch.cat([ends.new_zeros(1), ends])
            self.vectors[:first] = embedding_bag(
                items, self.vectors[first:], starts, mode="mean", include_last_offset=True
            )
        if self.shuffled:
            generator = torch.Generator().manual_seed(0)
            for start, stop in ((1, first), (first + 1, len(self.vectors))):  # padding is not moved
                self.vectors[start:stop] = self.vectors[start:stop][derangement(stop - start, generator)]
        self.has_text = (self.vectors != 0).any(1)

    def with_text(self, nodes: Tensor) -> Tensor:
        """The nodes that have a text vector."""
        return nodes[self.has_text[nodes]]


class RLMRecCon(SemanticLoss):
    """RLMRec's contrastive alignment: vectors of the model move towards the text of the same user or item.

    Args:
        base: the ranking loss; None = the model's own, with its contrast if it has one.
        weight: of the alignment; 0 leaves the ranking loss as it is.
        temperature: of the softmax over cosines.
        shuffled: give every user and item the vector of another one: the control.
    """

    def __init__(
        self, base: Loss | None = None, weight: float = 0.01, temperature: float = 0.2, shuffled: bool = False
    ) -> None:
        super().__init__(base, weight, temperature, shuffled)
        self.interactions: Interactions | None = None

    def text_network(self, dim: int, size: int) -> nn.Sequential:
        return network(size, dim)

    def fit(self, interactions: Interactions) -> None:
        super().fit(interactions)
        self.interactions = interactions

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        assert self.base is not None
        loss: Tensor = self.base(recommender, batch)
        return (
            loss + self.weight * self.alignment(require_graph_model(recommender, self), batch)
            if self.weight
            else loss
        )

    def alignment(self, model: LightGCN, batch: Batch) -> Tensor:
        """The three sums over the batch, divided by the number of its pairs."""
        assert self.interactions is not None
        first = model.num_users + 1
        final = torch.cat(model.tables())
        negatives = self.interactions.draw_unseen(batch.user.cpu(), 1)[:, 0].to(batch.user.device)
        parts = [
            self.alignment_term(final, batch.user, torch.arange(1, first, device=final.device)),
            *(
                self.alignment_term(final, first + items, torch.unique(first + items))
                for items in (batch.labels[:, 0], negatives)
            ),
        ]
        return torch.stack(parts).sum()

    def alignment_term(self, final: Tensor, nodes: Tensor, pool: Tensor) -> Tensor:
        """The sum over the nodes (n,) against the texts of a sorted pool, over n; nodes without text do not count."""
        pool, named = self.with_text(pool), self.with_text(nodes)
        if not len(named):
            return final.new_zeros(())
        texts = self.network(self.vectors[pool])
        once, counts = torch.unique(named, return_counts=True)  # a repeated node is compared once
        found = info_nce(final[once], texts, torch.searchsorted(pool, once), self.temperature, counts)
        return found * len(named) / len(nodes)


class RLMRecGen(SemanticLoss):
    """RLMRec's reconstruction: the texts of hidden users and items are predicted from their neighbours.

    Args:
        base: the ranking loss; None = the model's own, with its contrast if it has one.
        weight: of the reconstruction; 0 leaves it out, but the nodes stay hidden.
        temperature: of the softmax over cosines.
        ratio: share of the nodes that a step hides; 0 leaves the ranking loss as it is.
        shuffled: give every user and item the vector of another one: the control.
    """

    def __init__(
        self,
        base: Loss | None = None,
        weight: float = 0.1,
        temperature: float = 0.5,
        ratio: float = 0.15,
        shuffled: bool = False,
    ) -> None:
        super().__init__(base, weight, temperature, shuffled)
        if not 0 <= ratio <= 1:
            raise RecloomError(f"ratio must be between 0 and 1; found {ratio}")
        self.ratio = ratio

    def prepare(self, recommender: Recommender, catalog: Catalog) -> None:
        super().prepare(recommender, catalog)
        self.token = nn.Parameter(torch.zeros(require_graph_model(recommender, self).users.weight.shape[1]))

    def text_network(self, dim: int, size: int) -> nn.Sequential:
        return network(dim, size)

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        assert self.base is not None
        model = require_graph_model(recommender, self)
        hidden = self.draw_hidden(model)
        if not len(hidden):
            loss: Tensor = self.base(recommender, batch)
            return loss
        with model.masked(hidden, self.token):
            ranked: Tensor = self.base(recommender, batch)
            aligned = (
                self.reconstruction(torch.cat(model.tables()), hidden)
                if self.weight
                else ranked.new_zeros(())
            )
        return ranked + self.weight * aligned

    def draw_hidden(self, model: LightGCN) -> Tensor:
        """(M,) sorted nodes that a step hides, of all users and items; padding is none of them."""
        first = model.num_users + 1
        nodes = torch.cat([torch.arange(1, first), torch.arange(first + 1, first + 1 + model.num_items)])
        count = int(self.ratio * len(nodes))
        if not count:
            return nodes[:0]
        return nodes[torch.randperm(len(nodes))[:count]].sort().values.to(self.vectors.device)

    def reconstruction(self, final: Tensor, hidden: Tensor) -> Tensor:
        """The mean over the hidden nodes with a text, each against the texts of the others."""
        named = self.with_text(hidden)
        if not len(named):
            return final.new_zeros(())
        places = torch.arange(len(named), device=named.device)
        return info_nce(self.network(final[named]), self.vectors[named], places, self.temperature)


def network(size: int, out: int) -> nn.Sequential:
    """size -> (size + out) // 2 -> LeakyReLU -> out."""
    middle = (size + out) // 2
    into, onward = nn.Linear(size, middle), nn.Linear(middle, out)
    for layer in (into, onward):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(into, nn.LeakyReLU(), onward)


def derangement(count: int, generator: torch.Generator) -> Tensor:
    """(count,) a random permutation without fixed points, for count of at least 2."""
    order = torch.randperm(count, generator=generator)
    found = torch.empty_like(order)
    found[order] = order.roll(1)
    return found
