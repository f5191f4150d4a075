"""The contract of a recommender: scores candidate items for users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .batch import Batch
from .data.batches.training_rows import Rows, SequenceRows
from .data.catalog import Catalog
from .data.interactions import Interactions
from .errors import RecloomError
from .llm import llm_options
from .nn.catalogue_trie import CatalogueTrie
from .nn.constrained_beam import beam_search, path_log_probs, sample_paths
from .pretrained import Pretrained as Pretrained

if TYPE_CHECKING:
    from .data.batches.module import RecDataModule
    from .spec import Spec


class Recommender(nn.Module):
    """Scores candidate items for users. Trained, training-free and LLM recommenders alike.

    The constructor signature is the configuration: `catalog` first, then typed hyper-parameters.
    State that needs no gradient (counts, graphs, vectors) is computed in `fit` and kept in buffers.
    """

    inputs: ClassVar[tuple[str, ...]] = ("history",)
    """The fields of `Batch` that the scores depend on, apart from the candidates."""
    default_loss: ClassVar[str | Spec | dict[str, Any] | None] = None
    """Loss used when none is asked for: its name, such as `"BPR"`, or as in a config, `{"class_path": "BPR",
    "init_args": {...}}`. None: training-free."""
    training_defaults: ClassVar[dict[str, Any]] = {}
    """How `recloom fit` and `recloom.fit` train it where neither words nor a config file say otherwise: any of
    batch_size, lr, weight_decay, warmup_steps, schedule, max_epochs, patience and patience_steps."""
    demo: ClassVar[dict[str, Any] | None] = None
    """Settings with which it takes part in `recloom demo`: `options` of the constructor, and any of those of
    `training_defaults`. None, and in subclasses that say nothing: it takes no part."""
    reads_pairs: ClassVar[bool] = False
    """Whether scoring reads every pair of request and candidate, so that few requests are scored at once."""
    causal: ClassVar[bool] = False
    """Whether the vector at a position depends on that position and earlier ones only."""
    max_len: int | None = None
    """How many of the most recent history items are read; None = all."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self.num_items, self.num_users = catalog.num_items, catalog.num_users

    def score(self, batch: Batch) -> Tensor:
        """Return (B, C) scores of `batch.candidates`, higher is better, finite for every real item."""
        raise NotImplementedError(f"{type(self).__name__} must define score(batch)")

    @property
    def tells_cold_items(self) -> bool:
        """Whether items without training interactions get scores of their own, by texts, attributes or vectors. Where
        not, tables show a dash in place of what chance or a constant score gives them."""
        return True

    def fit(self, interactions: Interactions) -> None:
        """Compute state without gradients from the training interactions; nothing by default."""

    def training_rows(self, data: RecDataModule) -> Rows:
        """Return what one training step gathers its batch from; by default windows of users' sequences.

        `data.train` are the interactions that may be learnt from, `data.catalog` and the options of `data` say more.
        """
        return SequenceRows(data.train, self.max_len or int(data.train.lengths.max()), data.windows)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return groups of parameters for AdamW, each with `params` and, where it differs, its own `lr`,
        `weight_decay` or `betas`; `lr` is that of the run. By default one group of all that require gradients.

        Every parameter that requires gradients stands in exactly one group. Warm-up and schedule scale each group's
        own learning rate.
        """
        return [{"params": [one for one in self.parameters() if one.requires_grad]}]

    def external_weights(self) -> dict[str, Pretrained]:
        """Return which parts of the state come from a pretrained folder and so enter no checkpoint: prefix of the
        names in `state_dict()`, such as `backbone.model.`, to where they come from. None by default.
        """
        return {}

    def extend(self, catalog: Catalog) -> None:
        """Take in, without training, the items that stand in `catalog` after those known so far.

        Scores among the known items stay as they are. Every state with a row per item grows, and `num_items` is
        the last to change. Raise RecloomError with the reason where nothing could be said of a new item: by
        default, since what is known of an item by its id alone is learnt from who met it.
        """
        raise RecloomError(
            f"{type(self).__name__} knows an item by who met it, and nobody has met the new ones. Train a new run on "
            "data that hold them, or use a recommender that reads texts or vectors of items, such as TextMean."
        )

    def cold_start_scores(self, interactions: Interactions) -> Tensor:
        """Return (num_items + 1,) scores for users of whom nothing is known; by default the training counts."""
        return interactions.item_counts().float()

    def knows_users(self, users: Tensor) -> Tensor:
        """Return (B,) bool, whether (B,) user indices tell the recommender anything; by default all from 1 on do.

        Asked where `inputs` names `user`. One that is not known is scored as user 0 is, and without a history gets
        `cold_start_scores`.
        """
        return users > 0

    def retrieve(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """Return the best k of the candidates: (B, k) item indices and (B, k) scores, best first.

        Candidate 0 is padding, such as an item that may not be recommended: it gets score -inf and stands last. A list
        that is shorter ends in item 0 with score -inf. Evaluation and recommendation use the lists of a recommender
        that overrides this method, and the scores of any other.
        """
        scores = self.score(batch).masked_fill(batch.candidates == 0, float("-inf"))
        scores, columns = scores.topk(min(k, batch.candidates.shape[1]), dim=1)
        return batch.candidates.expand(len(batch), -1).gather(1, columns), scores

    def rollouts(
        self, batch: Batch, n: int, how: Literal["beam", "sample"] = "beam"
    ) -> tuple[Tensor, Tensor]:
        """Return (B, n) items among `batch.candidates`, each once, with their log-probabilities (B, n).

        The probabilities are the softmax of the scores. `beam`: the most probable, best first; `sample`: drawn without
        replacement, in the order drawn (Gumbel top-k; Kool et al., ICML 2019). A list that is shorter ends in item 0
        with -inf.
        """
        scores = self.score(batch).masked_fill(batch.candidates == 0, float("-inf")).log_softmax(1)
        order = scores.detach()
        if how == "sample":
            order = order - (-torch.rand_like(order).clamp(min=1e-20).log()).log()
        columns = order.topk(min(n, scores.shape[1]), dim=1).indices
        found, items = scores.gather(1, columns), batch.candidates.expand(len(batch), -1).gather(1, columns)
        room = (0, n - columns.shape[1])
        return pad(items, room), pad(found, room, value=float("-inf"))

    def export(self) -> ExportSpec:
        """Describe what is served: by default a graph from the input fields to scores of all items.

        Raise RecloomError with the reason where the recommender cannot be exported, as by default where it asks a
        language model.
        """
        if llm_options(self.modules()):
            raise RecloomError(
                f"{type(self).__name__} asks a language model, which no exported graph holds. Recommend with the run: "
                "recloom recommend RUN."
            )
        return ExportSpec(Catalogue(self), self.inputs, self.max_len, self.search())

    def search(self) -> Search | None:
        """Describe how an index would find the best items; None where scores are no inner products."""
        return None


@dataclass(frozen=True)
class ExportSpec:
    """What goes into an artefact.

    Attributes:
        module: called with the `inputs` in order, returns (B, num_items) scores of items 1..num_items.
        inputs: names of `Batch` fields.
        max_len: length to which a history is cut and left-padded; None = left as it is.
        search: the same scores as inner products, where they are that.
        rows: requests that are computed at once, at most, where a request takes much memory; None = any number.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    max_len: int | None
    search: Search | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Search:
    """Scores as inner products, so that an index finds the best items of a large catalogue without scoring all.

    Attributes:
        query: called with the `inputs` of the `ExportSpec` in order, returns (B, d).
        items: (num_items, d) of items 1..num_items. A bias is a column of its own, beside a 1 in every query.
    """

    query: nn.Module
    items: Tensor


class Catalogue(nn.Module):
    """Scores the whole catalogue, item 1 to num_items, from plain tensors: what is traced for export."""

    candidates: Tensor

    def __init__(self, recommender: Recommender) -> None:
        super().__init__()
        self.recommender = recommender
        self.register_buffer("candidates", torch.arange(1, recommender.num_items + 1)[None], persistent=False)

    def forward(self, *fields: Tensor) -> Tensor:
        given = _named(self.recommender, fields)
        return self.recommender.score(Batch.of(candidates=self.candidates, **given))


class RequestVectors(nn.Module):
    """The query vectors of requests, (B, d), or (B, d + 1) for a recommender with a bias, from plain tensors."""

    def __init__(self, recommender: VectorRecommender) -> None:
        super().__init__()
        self.recommender = recommender

    def forward(self, *fields: Tensor) -> Tensor:
        vectors = self.recommender.query(Batch.of(**_named(self.recommender, fields)))
        if self.recommender.item_bias() is None:
            return vectors
        return torch.cat([vectors, torch.ones_like(vectors[:, :1])], 1)


def _named(recommender: Recommender, fields: tuple[Tensor, ...]) -> dict[str, Any]:
    given = dict(zip(recommender.inputs, fields, strict=True))
    if "history" not in given:
        given["history"] = given[recommender.inputs[0]].new_zeros(fields[0].shape[0], 1)
    return given


class Queries(NamedTuple):
    """What a loss over item vectors needs from one training batch.

    Attributes:
        vectors: (N, d) query vectors.
        targets: (N,) int64 the item each query should rank first.
        items: (num_items + 1, d) item vectors, row 0 is padding.
        users: (N,) int64 user index of each query.
        bias: (num_items + 1,) added to the scores, or None.
    """

    vectors: Tensor
    targets: Tensor
    items: Tensor
    users: Tensor
    bias: Tensor | None = None


class VectorRecommender(Recommender):
    """A recommender whose score is the inner product of a query vector with an item vector.

    Losses over item vectors (cross-entropy, sampled softmax, BPR, BCE, gBCE) work with any of them.
    """

    def query(self, batch: Batch) -> Tensor:
        """Return the (B, d) query vector of each request."""
        raise NotImplementedError(f"{type(self).__name__} must define query(batch)")

    def item_vectors(self) -> Tensor:
        """Return the (num_items + 1, d) item vectors; row 0 is padding."""
        raise NotImplementedError(f"{type(self).__name__} must define item_vectors()")

    def item_bias(self) -> Tensor | None:
        """Return a (num_items + 1,) bias of the scores, or None."""
        return None

    def training_queries(self, batch: Batch) -> Queries:
        """Return the queries of a training batch and the items they should rank first."""
        raise RecloomError(f"{type(self).__name__} is not trained with a loss over item vectors")

    def initial_vectors(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the trainable rows behind users and items, which an L2 penalty shrinks (LightGCN: layer 0)."""
        raise RecloomError(
            f"{type(self).__name__} has no user and item tables that an l2 penalty could shrink; use l2=0"
        )

    def score(self, batch: Batch) -> Tensor:
        return inner_scores(self.query(batch), self.item_vectors(), batch.candidates, self.item_bias())

    def search(self) -> Search | None:
        """The item vectors, and their bias as one more column."""
        items, bias = self.item_vectors(), self.item_bias()
        if bias is not None:
            items = torch.cat([items, bias[:, None]], 1)
        return Search(RequestVectors(self), items[1:].detach())


class GenerativeRecommender(Recommender):
    """Says items as paths of codes or tokens, one path for each item of the catalogue.

    A subclass sets `trie` in its constructor and defines `next_codes`. Lists come from a beam among the allowed
    items, those of `batch.candidates`; sampling settings of a pretrained model are never part of it.
    """

    trie: CatalogueTrie
    beam: int = 20
    """Paths that `retrieve` keeps after each code; more where more items are asked for."""

    def next_codes(self, batch: Batch, codes: Tensor) -> Tensor:
        """Return (B, K, V) log-probabilities of the next code, over all codes, behind (B, K, T) codes; T may be 0."""
        raise NotImplementedError(f"{type(self).__name__} must define next_codes(batch, codes)")

    def log_prob(self, batch: Batch, items: Tensor) -> Tensor:
        """Return (B, C) log-probabilities of the whole paths of (B, C) or (1, C) items, -inf for item 0."""
        return path_log_probs(
            self.trie, lambda codes: self.next_codes(batch, codes), items.expand(len(batch), -1)
        )

    def rollouts(
        self, batch: Batch, n: int, how: Literal["beam", "sample"] = "beam"
    ) -> tuple[Tensor, Tensor]:
        """Return (B, n) items with the log-probabilities of their paths, among `batch.candidates` where given.

        `beam`: the most probable that a beam finds, each once, best first. `sample`: drawn, so that items may repeat.
        A list that is shorter ends in item 0 with -inf.
        """
        if how == "sample":
            return sample_paths(
                self.trie,
                lambda codes: self.next_codes(batch, codes),
                len(batch),
                n,
                masked=self._masked(batch),
            )
        return beam_search(
            self.trie, lambda codes: self.next_codes(batch, codes), len(batch), n,
            beam=max(n, self.beam), masked=self._masked(batch),
        )  # fmt: skip

    def retrieve(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        return self.rollouts(batch, min(k, self.num_items))

    def score(self, batch: Batch) -> Tensor:
        """Log-probabilities of the candidates' paths, each by itself: exact, and slow for many candidates."""
        return self.log_prob(batch, batch.candidates)

    def _masked(self, batch: Batch) -> Tensor | None:
        """(B, num_items + 1) bool: what is not among the candidates; None without any."""
        if not batch.candidates.shape[1]:
            return None
        masked = torch.ones(len(batch), self.num_items + 1, dtype=torch.bool, device=batch.candidates.device)
        return masked.scatter(1, batch.candidates.expand(len(batch), -1), False)


def inner_scores(query: Tensor, items: Tensor, candidates: Tensor, bias: Tensor | None = None) -> Tensor:
    """Inner products of (B, d) queries with the item rows at (B, C) or (1, C) candidates: (B, C)."""
    if candidates.shape[0] == 1:
        scores = query @ items[candidates[0]].T
    else:
        scores = torch.einsum("bd,bcd->bc", query, items[candidates])
    return scores if bias is None else scores + bias[candidates]


def multi_hot(history: Tensor, num_items: int) -> Tensor:
    """(B, L) item indices to (B, num_items + 1) float32 with 1 at the items that occur; column 0 is 0."""
    hot = torch.zeros(history.shape[0], num_items + 1, device=history.device)
    hot = hot.scatter(1, history, 1.0)
    return hot * (torch.arange(num_items + 1, device=history.device) > 0)
