"""Prompts of GaCLLM within a limit of tokens: only the texts of neighbours are shortened, the longest first.

Every neighbour longer than c is cut to c, which is as large as the limit allows. A node whose own text leaves no room
even for one character of each neighbour makes no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from recloom.llm import Failure, LanguageModel, LLMRequest, Message, PromptTemplate, worst_case
from recloom.plugins import collect

from .neighbours import Side

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
