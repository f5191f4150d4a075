"""Texts of GaCLLM by a convolution of a language model (Du et al., arXiv 2402.08859; a reconstruction, see `GaCLLM`).

    T_u^(l+1) = LLM(T_u^l, {T_i^l : i in N(u)})        T_i^(l+1) = LLM(T_i^l, {T_u^l : u in N(i)})

for all nodes at once: layer l + 1 reads layer l alone, so the order of nodes does not matter. A prompt holds one-hop
neighbours; further ones enter through depth. N are training neighbours, a sample of them where there are many. The
answer replaces the text (`replace`), or is appended to it (`append`).

A prompt over the limit of tokens shortens the texts of neighbours alone, the longest first: every neighbour longer than
c is cut to c, which is as large as the limit allows. A node whose own text leaves no room even for one character of
each neighbour makes no request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from recloom.data import Catalog
from recloom.llm import (
    Failure,
    GeneratedTable,
    LanguageModel,
    LLMRequest,
    LLMSession,
    Message,
    PlannedRounds,
    PromptTemplate,
    item_text,
    worst_case,
)
from recloom.plugins import collect

from .neighbours import Shown, Side, sample_neighbours

TEMPLATES: dict[Side, str] = {"user_id": "gacllm-user", "item_id": "gacllm-item"}
NOTHING = "(nothing is known yet)"


def _with_words(text: str) -> str:
    if not any(character.isalnum() for character in text):
        raise ValueError("expected letters or digits")
    return text.strip()


class Description(BaseModel):
    """The answer schema."""

    model_config = ConfigDict(extra="forbid", strict=True)
    description: Annotated[str, Field(max_length=8000), AfterValidator(_with_words)]


@dataclass(frozen=True)
class Prompts:
    """Fills the two templates for one language model.

    Args:
        model: whose tokens are counted.
        limit: tokens of the longest prompt.
        answer: tokens of the longest answer.
    """

    model: LanguageModel
    limit: int
    answer: int

    @cached_property
    def templates(self) -> dict[Side, tuple[PromptTemplate, str]]:
        """Template, and its name with version, by side: read once, since thousands of prompts are filled."""
        found = {side: collect("register_prompts")[name] for side, name in TEMPLATES.items()}
        return {side: (one, f"{one.name}@{one.version}") for side, one in found.items()}

    def fitted(self, side: Side, own: str, neighbours: Sequence[str]) -> LLMRequest | Failure:
        """The request for a node, its neighbours as long as the limit allows; a Failure where they do not fit."""
        whole = self._request(side, own, neighbours)
        if self._tokens(whole) <= self.limit:
            return whole
        shortest = self._request(side, own, [_cut(one, 1) for one in neighbours])
        needed = self._tokens(shortest)
        if needed > self.limit:
            return Failure(
                f"its own text, which is never cut, needs a prompt of {needed:,} tokens, and --prompt_tokens is "
                f"{self.limit:,}"
            )
        fits, low, high = shortest, 1, max(map(len, neighbours))  # a length that fits, and one that does not
        while high - low > 1:
            length = (low + high) // 2
            request = self._request(side, own, [_cut(one, length) for one in neighbours])
            if self._tokens(request) <= self.limit:
                fits, low = request, length
            else:
                high = length
        return fits

    def grown(self, request: LLMRequest, tokens: int) -> LLMRequest:
        """For a plan: the request longer by so many words, within the limit."""
        room = max(0, min(tokens, self.limit - self._tokens(request)))
        *others, last = request.messages
        longer: Message = {"role": last["role"], "content": last["content"] + " word" * room}
        return replace(request, messages=(*others, longer))

    def _request(self, side: Side, own: str, neighbours: Sequence[str]) -> LLMRequest:
        template, known_as = self.templates[side]
        shown = [one or NOTHING for one in neighbours]
        messages = template.render(own=own or NOTHING, neighbours=shown)
        return LLMRequest(tuple(messages), known_as, max_tokens=self.answer)

    def _tokens(self, request: LLMRequest) -> int:
        return worst_case(self.model, request).prompt_tokens


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


MADE_FROM = b"recloom.gacllm"
"""The metadata key of the recipe: data, prompts, language model and options."""
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
        """The key of its text."""
        return self.side, self.id

    @property
    def neighbours(self) -> list[Key]:
        """The keys of the sampled neighbours, by id."""
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
    return [
        Node(side, id_, one)
        for side in SIDES
        for id_, one in sample_neighbours(train, side, limit, seed).items()
    ]


def refine_layers(
    session: LLMSession, prompts: Prompts, nodes: Sequence[Node], raw: Texts, layers: int, update: Update
) -> Refined:
    """One request for every node in each layer; a node that fails or has no neighbours keeps its text."""
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
    """Requests of later layers, for a plan: from the texts so far, with room for the longest answers."""

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
    none = Shown([], [])
    columns: dict[str, Any] = {side: pl.Series(ids, dtype=pl.String)}
    for layer, texts in enumerate(found.layers):
        columns[f"layer_{layer}"] = pl.Series([texts[side, id_] for id_ in ids], dtype=pl.String)
    sampled = [shown.get(id_, none) for id_ in ids]
    columns["neighbours"] = pl.Series([one.ids for one in sampled], dtype=pl.List(pl.String))
    columns["source"] = pl.Series([one.rows for one in sampled], dtype=pl.List(pl.Int64))
    failures = [
        (f"{node.id}, layer {layer}", one) for node, layer, one in found.failures if node.side == side
    ]
    asked = (len(found.layers) - 1) * len(shown)
    return GeneratedTable(
        pl.DataFrame(columns).to_arrow(compat_level=pl.CompatLevel.oldest()),
        failures,
        f"{asked - len(failures):,} of {asked:,} texts refined, {len(failures):,} failed",
    )
