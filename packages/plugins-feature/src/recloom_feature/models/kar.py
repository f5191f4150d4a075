"""KAR: a click model with knowledge from language models.

Xi et al. 2024, "Towards Open-World Recommendation with Knowledge Augmentation from Large Language Models".

    E_k(x) = relu(W2 relu(W1 x + b1) + b2)              an expert, d to 128 to 32
    z_t = sum_k softmax(G_t x_t + c_t)_k E_k(x_t)       t = user, item
    logit = backbone(request, candidate, [z_user; z_item])

n_s experts are shared by both sides, n_p are dedicated to each. x_user and x_item are the vectors of texts that a
language model wrote; they are made once (`recloom embed`), so that serving asks no language model.

Unlike the authors' code:
* z joins the backbone's last network only, and no crossing or attention layer: one place fits every backbone. There it
  is another field beside the embeddings, so that cross layers and factorisation machines multiply it too.
* A user or item without a text gets z = 0; there, all must have one.
* The epoch is chosen on the validation part; the code chooses it on the test part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from recloom.batch import Batch
from recloom.data import Catalog, Interactions
from recloom.data.batches import Rows
from recloom.errors import RecloomError, at_least
from recloom.models.ctr import DIN, ClickModel
from recloom.recommender import ExportSpec, Recommender
from torch import Tensor, nn

if TYPE_CHECKING:
    from recloom.data.batches import RecDataModule

Side = Literal["user", "item"]


class KAR(Recommender):
    """A click model with additional inputs from a language model's texts on user and item.

    Vectors come with the catalogue: --data.vectors and --data.user_vectors. A user or item without one, and an
    unknown one, gets z = 0 on its side: the logit of the backbone alone.

    What happened with the items of the history, such as their ratings, is embedded by the backbone (`events`).

    Args:
        catalog: its items and users have vectors of one size.
        backbone: a click model, such as DIN, DCNv2 or DeepFM, with its options; by default DIN.
        shared: experts for both sides.
        dedicated: experts for each side alone.
        hidden: size of an expert's hidden layer.
        out: size of its output; the backbone's final network gets twice as many inputs more.
    """

    default_loss = "LogLoss"
    reads_pairs = True
    user_vectors: Tensor
    item_vectors: Tensor
    """(num + 1, d) of the catalogue, not in the state: they are rebuilt with it."""

    def __init__(
        self,
        catalog: Catalog,
        backbone: Callable[[Catalog], ClickModel] | None = None,
        shared: int = 2,
        dedicated: int = 5,
        hidden: int = 128,
        out: int = 32,
    ) -> None:
        super().__init__(catalog)
        users, items = (torch.from_numpy(found) for found in (catalog.user_vectors(), catalog.vectors()))
        if users.shape[1] != items.shape[1]:
            raise RecloomError(
                f"KAR shares experts between users and items, so their vectors must be of one size; found "
                f"{users.shape[1]} and {items.shape[1]}. Make both with the same encoder."
            )
        self.register_buffer("user_vectors", users, persistent=False)
        self.register_buffer("item_vectors", items, persistent=False)
        self.experts = HybridExperts(items.shape[1], shared, dedicated, hidden, out)
        self.backbone = (backbone or DIN)(catalog)
        if not isinstance(self.backbone, ClickModel):
            raise RecloomError(
                f"the backbone of KAR must be a click model, such as DIN, DCNv2 or DeepFM; "
                f"found {type(self.backbone).__name__}"
            )
        self.backbone.widen(2 * out)
        self.max_len = self.backbone.max_len

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the backbone, which may not read events where it was trained without."""
        return self.backbone.inputs

    def export(self) -> ExportSpec:
        return replace(super().export(), rows=self.backbone.rows_at_once())

    def training_rows(self, data: RecDataModule) -> Rows:
        return self.backbone.training_rows(data)

    def fit(self, interactions: Interactions) -> None:
        self.backbone.fit(interactions)

    def cold_start_scores(self, interactions: Interactions) -> Tensor:
        return self.backbone.cold_start_scores(interactions)

    def score(self, batch: Batch) -> Tensor:
        user = self.knowledge("user", self.user_vectors, batch.user[:, None])  # (B, 1, out)
        found = []
        for part in self.backbone.parts(batch):
            item = self.knowledge("item", self.item_vectors, part.candidates)  # (1 or B, C, out)
            rows = batch.user.shape[0], part.candidates.shape[1], -1
            found.append(self.backbone.logits(part, torch.cat([user.expand(rows), item.expand(rows)], -1)))
        return torch.cat(found, 1)

    def knowledge(self, side: Side, vectors: Tensor, index: Tensor) -> Tensor:
        """z of users or items at indices of any shape: (..., out), 0 where there is no vector."""
        if torch.compiler.is_exporting():  # the number of distinct ones is dynamic
            return self._known(side, vectors[index])
        distinct, place = torch.unique(index, return_inverse=True)
        return self._known(side, vectors[distinct])[place]

    def _known(self, side: Side, x: Tensor) -> Tensor:
        found: Tensor = self.experts(side, x)
        return found * (x != 0).any(-1, keepdim=True)


class HybridExperts(nn.Module):
    """The hybrid-expert adaptor: shared and dedicated experts, mixed by a gate of each side.

    Args:
        size: of the vectors.
        shared: experts for both sides.
        dedicated: experts for each side alone; together with the shared ones at least one.
        hidden, out: sizes of an expert's two layers.
    """

    def __init__(self, size: int, shared: int, dedicated: int, hidden: int = 128, out: int = 32) -> None:
        super().__init__()
        at_least(0, shared=shared, dedicated=dedicated)
        at_least(1, hidden=hidden, out=out)
        if not shared + dedicated:
            raise RecloomError("KAR needs an expert; found shared=0 and dedicated=0. The paper has 2 and 5.")
        self.shared = nn.ModuleList(_expert(size, hidden, out) for _ in range(shared))
        self.user = nn.ModuleList(_expert(size, hidden, out) for _ in range(dedicated))
        self.item = nn.ModuleList(_expert(size, hidden, out) for _ in range(dedicated))
        self.gates = nn.ModuleDict({side: nn.Linear(size, shared + dedicated) for side in ("user", "item")})

    def forward(self, side: Side, x: Tensor) -> Tensor:
        """(..., out) from (..., size) vectors of one side."""
        own = self.user if side == "user" else self.item
        outputs = torch.stack([expert(x) for expert in (*self.shared, *own)], -1)  # (..., out, experts)
        found: Tensor = (outputs * self.gate(side, x)[..., None, :]).sum(-1)
        return found

    def gate(self, side: Side, x: Tensor) -> Tensor:
        """(..., experts) weights that sum to 1."""
        return self.gates[side](x).softmax(-1)  # type: ignore[no-any-return]


def _expert(size: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, out), nn.ReLU())
