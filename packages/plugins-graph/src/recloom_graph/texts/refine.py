"""The texts of GaCLLM (Du et al., arXiv 2402.08859; a reconstruction, see `gacllm.py`): convolution by language model.

    T_u^(l+1) = LLM(T_u^l, {T_i^l : i in N(u)})        T_i^(l+1) = LLM(T_i^l, {T_u^l : u in N(i)})

for all nodes at once: layer l + 1 is read from layer l alone, so the order of nodes does not matter. A prompt holds
neighbours of one hop; what lies further comes with depth. N are training neighbours, a draw of them where there are
many. The answer takes the place of the text (`replace`), or is put after it (`append`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from recloom.data import Catalog
from recloom.llm import Failure, GeneratedTable, LLMRequest, LLMSession, PlannedRounds, item_text

from .neighbours import Shown, Side, drawn
from .refine_prompt import Description, Prompts

MADE_FROM = b"recloom.gacllm"
"""The key of a file's metadata: what was asked of whom, and of which data."""
SIDES: tuple[Side, Side] = ("user_id", "item_id")
Update = Literal["append", "replace"]
Key = tuple[Side, str]
Texts = dict[Key, str]


@dataclass(frozen=True)
class Node:
    """A user or an item with a training neighbour."""

    side: Side
    id: str
    shown: Shown

    @property
    def key(self) -> Key:
        """By which its text is found."""
        return self.side, self.id

    @property
    def neighbours(self) -> list[Key]:
        """The keys of those that are shown, by id."""
        other: Side = "item_id" if self.side == "user_id" else "user_id"
        return [(other, id_) for id_ in self.shown.ids]


@dataclass(frozen=True)
class Refined:
    """The texts of all layers, the raw ones first, and what failed: the node, its layer and why."""

    layers: list[Texts]
    failures: list[tuple[Node, int, Failure]]


def raw_texts(catalog: Catalog, columns: Sequence[str] | None) -> Texts:
    """Layer 0: the attributes of every user and item, an empty text where there are none.

    Args:
        columns: of the items; None = all. Of users all are taken.
    """
    found: Texts = {}
    for side, table, chosen in (("user_id", catalog.users, None), ("item_id", catalog.items, columns)):
        found |= {(side, id_): text for id_, text in item_text(table, chosen).items()}  # type: ignore[misc]
    return found


def nodes_of(train: pl.DataFrame, limit: int, seed: int) -> list[Node]:
    """Every user and item with a training row, each with up to `limit` neighbours."""
    return [Node(side, id_, one) for side in SIDES for id_, one in drawn(train, side, limit, seed).items()]


def refine(
    session: LLMSession, prompts: Prompts, nodes: Sequence[Node], raw: Texts, layers: int, update: Update
) -> Refined:
    """Ask about every node once a layer; a node that fails keeps its text, as one without neighbours does."""
    found = Refined([raw], [])
    for layer in range(1, layers + 1):
        before = found.layers[-1]
        fitted = [request_of(prompts, node, before) for node in nodes]
        asked = [(node, one) for node, one in zip(nodes, fitted, strict=True) if isinstance(one, LLMRequest)]
        later = _later(prompts, nodes, before, range(layer, layers), update)
        result = session.answers(
            [request for _, request in asked],
            Description,
            later=later,
            progress=f"layer {layer} of {layers}",
        )
        answered = {node.key: one for (node, _), one in zip(asked, result.found, strict=True)}
        after = dict(before)
        for node, one in zip(nodes, fitted, strict=True):
            answer = one if isinstance(one, Failure) else answered[node.key]
            if isinstance(answer, Failure):
                found.failures.append((node, layer, answer))
            else:
                after[node.key] = updated(before[node.key], answer.description, update)
        found.layers.append(after)
    return found


def request_of(prompts: Prompts, node: Node, texts: Mapping[Key, str]) -> LLMRequest | Failure:
    """The request about a node, from texts of one layer."""
    return prompts.fitted(node.side, texts[node.key], [texts[key] for key in node.neighbours])


def updated(own: str, answer: str, update: Update) -> str:
    """The text of the next layer."""
    return f"{own}\n{answer}" if update == "append" and own else answer


def _later(
    prompts: Prompts, nodes: Sequence[Node], known: Texts, layers: range, update: Update
) -> PlannedRounds:
    """The requests of the layers to come: those of the texts known so far, as much longer as answers may make them."""

    def requests() -> list[LLMRequest]:
        found = []
        for steps, layer in enumerate(layers, 1):
            for node in nodes:
                own = updated(known[node.key], f"{node.side} {node.id} {layer}", update)  # no two alike
                one = prompts.fitted(node.side, own, [known[key] for key in node.neighbours])
                if isinstance(one, LLMRequest):
                    found.append(prompts.grown(one, steps * (1 + len(node.neighbours)) * prompts.answer))
        return found

    return PlannedRounds(len(nodes) * len(layers), requests)


def refined_table(catalog: Catalog, side: Side, nodes: Sequence[Node], found: Refined) -> GeneratedTable:
    """The texts of all users or items.

    Columns: the id, `layer_0` (raw) to the last layer, and the `neighbours` and rows (`source`) that were shown.
    """
    ids = (catalog.users if side == "user_id" else catalog.items)[side].to_list()
    shown = {node.id: node.shown for node in nodes if node.side == side}
    nobody = Shown([], [])
    columns: dict[str, Any] = {side: pl.Series(ids, dtype=pl.String)}
    for layer, texts in enumerate(found.layers):
        columns[f"layer_{layer}"] = pl.Series([texts[side, id_] for id_ in ids], dtype=pl.String)
    met = [shown.get(id_, nobody) for id_ in ids]
    columns["neighbours"] = pl.Series([one.ids for one in met], dtype=pl.List(pl.String))
    columns["source"] = pl.Series([one.rows for one in met], dtype=pl.List(pl.Int64))
    failures = [
        (f"{node.id}, layer {layer}", one) for node, layer, one in found.failures if node.side == side
    ]
    asked = (len(found.layers) - 1) * len(shown)
    return GeneratedTable(
        pl.DataFrame(columns).to_arrow(compat_level=pl.CompatLevel.oldest()),
        failures,
        f"{asked - len(failures):,} of {asked:,} texts refined, {len(failures):,} failed",
    )
