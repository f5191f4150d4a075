"""The prompts of LLM-TRSR within a limit: the history is trimmed first, oldest items before newer ones.

Instruction and earlier summary stay as they are. Nothing is cut at the end of a prompt, where the answer begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from recloom.language import LanguageModel
from recloom.language.budget import worst_case
from recloom.language.question import Failure, Question
from recloom.plugins import collect
from recloom.prompts import PromptTemplate

ANSWER_TOKENS = 400
"""Of an answer: a summary of 120 words, with room for the object round it."""
NAMES = ("summarize-block", "summarize-update", "summarize-merge")
LONGEST = 4000
"""Characters of a summary; the prompts that read one cut none."""
UNKNOWN = "word " * 200
"""Stands for a summary that is not written yet, where costs are planned."""


class Summary(BaseModel):
    """What the model must answer."""

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

    def of_block(self, items: list[str]) -> tuple[Question, int] | Failure:
        """The question for a summary of these items, oldest first, and how many of them it holds."""
        return self.fitted("summarize-block", "items", items, {})

    def of_update(self, summary: str, items: list[str]) -> tuple[Question, int] | Failure:
        """The question for a summary that also knows these items; the earlier summary stays verbatim."""
        return self.fitted("summarize-update", "items", items, {"summary": summary})

    def of_merge(self, summaries: list[str]) -> tuple[Question, int] | Failure:
        """The question for one summary of several, oldest first."""
        return self.fitted("summarize-merge", "summaries", summaries, {})

    def fitted(
        self, name: str, field: str, lines: list[str], fixed: dict[str, Any]
    ) -> tuple[Question, int] | Failure:
        """As many of the last lines as the limit allows, one at least; a Failure where that one is too long."""
        template, known_as = self.templates[name]
        needed = 0
        for first in range(len(lines)):
            question = Question(
                tuple(template.render(**{field: lines[first:]}, **fixed)),
                known_as,
                max_tokens=ANSWER_TOKENS,
            )
            needed = worst_case(self.model, question).prompt_tokens
            if needed <= self.limit:
                return question, len(lines) - first
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
