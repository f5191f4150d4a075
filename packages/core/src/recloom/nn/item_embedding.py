"""Item embeddings: a learnt row per id, a given vector projected, or both.

    id          e_i = E_i
    vector      e_i = W v_i + b
    id+vector   e_i = E_i + W v_i + b
    gated       e_i = g * E_i + (1 - g) * (W v_i + b),  g = sigmoid(U [E_i; W v_i + b] + c)

v_i is the frozen vector of the catalogue (`Catalog.vectors`); an item without one has v_i = 0 and no W v_i + b.
An item that came after training has E_i = 0, so its vector is all there is of it; the gate, which never saw such
an item, is left open for the vector: e_i = W v_i + b in `gated` too.
Any model that reads items through this module can use texts, and none needs a text variant of its own.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from ..data.catalog import Catalog
from ..errors import RecloomError, at_least

ItemInput = Literal["id", "vector", "id+vector", "gated"]


class ItemEmbedding(nn.Module):
    """Rows of item 0 (padding, zero), of items 1..num_items, and of special tokens after them.

    Args:
        catalog: its items' vectors are read unless `kind` is `id`; DataError where it has none.
        dim: size of a row.
        kind: as above.
        special: rows beyond the items, such as [MASK]; they are learned in every kind.
        std: of the initial rows.
        vectors: name of the vectors that are read, where the catalogue has several; None = those without a name, or
            the first.
    """

    vectors: Tensor
    """(num_items + 1, size) of the catalogue, not in the state: they are rebuilt with it."""

    def __init__(
        self,
        catalog: Catalog,
        dim: int,
        kind: ItemInput = "id",
        special: int = 0,
        std: float = 0.02,
        vectors: str | None = None,
    ) -> None:
        super().__init__()
        at_least(1, dim=dim)
        self.kind, self.num_items, self.special = kind, catalog.num_items, special
        self.catalog, self.name = catalog, vectors
        rows = (0 if kind == "vector" else catalog.num_items) + special
        self.ids = nn.Embedding(1 + rows, dim, padding_idx=0)
        nn.init.normal_(self.ids.weight, std=std)
        with torch.no_grad():
            self.ids.weight[0] = 0
        if kind != "id":
            given = torch.from_numpy(catalog.vectors(vectors))
            self.register_buffer("vectors", given, persistent=False)
            self.project = nn.Linear(given.shape[1], dim)
            nn.init.normal_(self.project.weight, std=std * (dim / max(1, given.shape[1])) ** 0.5)
            nn.init.zeros_(self.project.bias)
        if kind == "gated":
            self.gate = nn.Linear(2 * dim, dim)
        self._kept: Tensor | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def table(self) -> Tensor:
        """(1 + num_items + special, dim) rows; computed once in eval mode without gradients."""
        if self.kind == "id":
            return self.ids.weight
        if self.training or torch.is_grad_enabled():
            return self._computed()
        if self._kept is None:
            self._kept = self._computed()
        return self._kept

    def forward(self, index: Tensor, table: Tensor | None = None) -> Tensor:
        """Rows at indices of any shape; `table` where it was computed already."""
        return embedding(index, self.table() if table is None else table, padding_idx=0)

    def extend(self, catalog: Catalog) -> None:
        """Take in the vectors of items added after training; their id rows are 0, before the special rows.

        Raises RecloomError where items enter by id alone.
        """
        if self.kind == "id":
            raise RecloomError(
                "items enter this model by id alone (item_input id), and the rows of new ids were never trained. "
                "Train a run with item_input vector, id+vector or gated; to such a run items can be added."
            )
        rows, new = self.ids.weight.detach(), catalog.num_items - self.num_items
        if self.kind != "vector":
            head = len(rows) - self.special
            rows = torch.cat([rows[:head], rows.new_zeros(new, rows.shape[1]), rows[head:]])
        self.ids = nn.Embedding(len(rows), rows.shape[1], padding_idx=0, _weight=rows)
        self.vectors = torch.from_numpy(catalog.vectors(self.name)).to(self.vectors)
        self.num_items, self._kept = catalog.num_items, None

    def train(self, mode: bool = True) -> ItemEmbedding:
        self._kept = None
        super().train(mode)
        return self

    def _computed(self) -> Tensor:
        known = (self.vectors != 0).any(1, keepdim=True)
        given = self.project(self.vectors) * known  # (1 + num_items, dim)
        items_end = len(self.ids.weight) - self.special
        learned, special = self.ids.weight[:items_end], self.ids.weight[items_end:]
        if self.kind == "vector":
            items = given
        elif self.kind == "id+vector":
            items = learned + given
        else:
            share = torch.sigmoid(self.gate(torch.cat([learned, given], 1)))
            both = torch.where(known, share * learned + (1 - share) * given, learned)
            items = torch.where((learned != 0).any(1, keepdim=True), both, given)
        return torch.cat([items, special])

    def _apply(self, fn: Any, recurse: bool = True) -> ItemEmbedding:
        self._kept = None  # the module moves to another device or type
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def _forget(module: ItemEmbedding, _: object) -> None:
    """Weights were loaded, so a table computed from others is void."""
    module._kept = None
