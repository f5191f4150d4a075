"""LLM-TRSR: text-rich histories summarised in blocks of items (Zheng et al., WWW'24, pp. 3207-3216).

    hierarchical    S = merge(sum(block 1), ..., sum(block N))              N + 1 calls
    recurrent       S_1 = sum(block 1), S_j = update(S_{j-1}, block j)      N calls

The j-th blocks of all users are one round of requests. A prompt over the limit loses its oldest items first;
instruction and earlier summary are never cut, nor is the end of the prompt, where the answer begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from recloom.llm import (
    LAST,
    Failure,
    LanguageModel,
    LLMRequest,
    LLMSession,
    PlannedRounds,
    PromptTemplate,
    UserHistory,
    worst_case,
)
from recloom.plugins import collect

Fitted = tuple[LLMRequest, int] | Failure


@dataclass
class UserSummary:
    """The summaries of a user so far, of which the last one counts.

    Attributes:
        blocks: training rows, oldest first.
        summaries: one for each answer.
        shown: row numbers of the items behind each summary of a block.
        prompt: name and version of the last prompt.
        failure: why there is no summary.
    """

    blocks: list[UserHistory]
    summaries: list[str] = field(default_factory=list)
    shown: list[list[int]] = field(default_factory=list)
    prompt: str = ""
    failure: Failure | None = None

    @property
    def source(self) -> list[int]:
        """Row numbers of all the items that the last summary was made from."""
        return [row for rows in self.shown for row in rows]


def recurrent(
    session: LLMSession, prompts: Prompts, users: Sequence[UserSummary], lines: dict[str, str]
) -> None:
    """Renew each user's summary block by block."""

    def request(user: UserSummary, at: int, known: str) -> Fitted:
        items = [lines[item] for item in user.blocks[at].items]
        return prompts.of_update(known, items) if at else prompts.of_block(items)

    rounds = max(len(user.blocks) for user in users)
    for at in range(rounds):
        active = [user for user in users if user.failure is None and len(user.blocks) > at]
        asked = [request(user, at, user.summaries[-1] if at else "") for user in active]
        coming = [(user, then) for user in active for then in range(at + 1, len(user.blocks))]
        later = _later([partial(request, user, then, placeholder(user, then)) for user, then in coming])
        answered = _round(session, active, asked, later, f"block {at + 1} of {rounds}")
        for user, count in answered:
            user.shown.append(user.blocks[at].rows[-count:])


def hierarchical(
    session: LLMSession, prompts: Prompts, users: Sequence[UserSummary], lines: dict[str, str]
) -> None:
    """Summarise the blocks by themselves, and then merge the summaries."""
    owners = [user for user in users for _ in user.blocks]
    asked = [
        prompts.of_block([lines[item] for item in block.items]) for user in users for block in user.blocks
    ]
    merges = [[placeholder(user, at) for at in range(len(user.blocks))] for user in users]
    later = _later([partial(prompts.of_merge, summaries) for summaries in merges])
    for user, count in _round(session, owners, asked, later, "blocks"):
        user.shown.append(user.blocks[len(user.shown)].rows[-count:])
    active = [user for user in users if user.failure is None]
    merging = [prompts.of_merge(user.summaries) for user in active]
    for user, count in _round(session, active, merging, LAST, "merging"):
        user.shown = user.shown[-count:]  # a summary that was trimmed away takes its items with it


def placeholder(user: UserSummary, at: int) -> str:
    """Stand-in for a summary that a plan does not have: of full length, and no two alike."""
    return f"{user.blocks[0].user} {at} {UNKNOWN}"


METHODS: dict[str, Callable[[LLMSession, Prompts, Sequence[UserSummary], dict[str, str]], None]] = {
    "recurrent": recurrent,
    "hierarchical": hierarchical,
}


def _later(fitted: Sequence[Callable[[], Fitted]]) -> PlannedRounds:
    """Requests of later rounds, for a plan; a prompt that is too long makes none."""

    def requests() -> list[LLMRequest]:
        found = (each() for each in fitted)
        return [one[0] for one in found if not isinstance(one, Failure)]

    return PlannedRounds(len(fitted), requests)


def _round(
    session: LLMSession,
    owners: Sequence[UserSummary],
    fitted: Sequence[Fitted],
    later: PlannedRounds,
    progress: str,
) -> list[tuple[UserSummary, int]]:
    """Send the requests of a round; answers and failures are stored at their owners.

    Returns the users with an answer, with the number of lines that the prompt held, in order.
    """
    able, answered = [], []
    for owner, one in zip(owners, fitted, strict=True):
        if isinstance(one, Failure):
            owner.failure = owner.failure or one
        else:
            able.append((owner, *one))
    answers = session.answers([request for _, request, _ in able], Summary, later=later, progress=progress)
    for (owner, request, count), found in zip(able, answers.found, strict=True):
        owner.prompt = request.prompt
        if isinstance(found, Failure):
            owner.failure = owner.failure or found
        else:
            owner.summaries.append(found.summary.strip())
            answered.append((owner, count))
    return answered


ANSWER_TOKENS = 400
"""Tokens of an answer: a summary of 120 words in a JSON object."""
NAMES = ("summarize-block", "summarize-update", "summarize-merge")
LONGEST = 4000
"""Characters of a summary; prompts hold it whole."""
UNKNOWN = "word " * 200
"""Text of the stand-in for a summary, where costs are planned."""


class Summary(BaseModel):
    """The answer schema of all three prompts."""

    model_config = ConfigDict(extra="forbid")
    summary: str = Field(min_length=1, max_length=LONGEST, pattern=r"\S")


@dataclass(frozen=True)
class Prompts:
    """Fills the templates for one language model.

    Args:
        model: whose tokens are counted.
        limit: tokens of the longest prompt.
    """

    model: LanguageModel
    limit: int

    @cached_property
    def templates(self) -> dict[str, tuple[PromptTemplate, str]]:
        """Template, and its name with version, by name: read once, since thousands of prompts are filled."""
        return {name: (one, named(one)) for name, one in collect("register_prompts").items() if name in NAMES}

    def of_block(self, items: list[str]) -> tuple[LLMRequest, int] | Failure:
        """The request for a summary of these items, oldest first, and how many of them it holds."""
        return self.fitted("summarize-block", "items", items, {})

    def of_update(self, summary: str, items: list[str]) -> tuple[LLMRequest, int] | Failure:
        """The request for a summary that also covers these items; the earlier summary stays verbatim."""
        return self.fitted("summarize-update", "items", items, {"summary": summary})

    def of_merge(self, summaries: list[str]) -> tuple[LLMRequest, int] | Failure:
        """The request for one summary of several, oldest first."""
        return self.fitted("summarize-merge", "summaries", summaries, {})

    def fitted(
        self, name: str, field: str, lines: list[str], fixed: dict[str, Any]
    ) -> tuple[LLMRequest, int] | Failure:
        """As many of the last lines as the limit allows, one at least; a Failure where that one is too long."""
        template, known_as = self.templates[name]
        needed = 0
        for first in range(len(lines)):
            request = LLMRequest(
                tuple(template.render(**{field: lines[first:]}, **fixed)),
                known_as,
                max_tokens=ANSWER_TOKENS,
            )
            needed = worst_case(self.model, request).prompt_tokens
            if needed <= self.limit:
                return request, len(lines) - first
        return Failure(
            f"prompt {name} needs {needed:,} tokens with its last line alone, and --prompt_tokens is {self.limit:,}"
        )


def prompt(name: str) -> PromptTemplate:
    """A template by its name."""
    found: PromptTemplate = collect("register_prompts")[name]
    return found


def named(template: PromptTemplate) -> str:
    """`name@version`."""
    return f"{template.name}@{template.version}"
