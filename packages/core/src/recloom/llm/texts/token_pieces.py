"""A prompt template cut into pieces for a tokeniser: fixed texts, marks of lines, and texts of items and users.

A line break is tokenised with what follows it, or, where a tokeniser joins it to what stands before (`behind`), with
that. A blank between a label or a mark and a text is tokenised with the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...data.catalog import Catalog
from ...errors import RecloomError
from .. import Message
from ..local.chat_template import control_marks, prompt_text
from ..prompts import PLACE, LinesField, PromptTemplate
from .token_slots import Answer, Line, Slot, TextColumn, lines_of_rows
from .tokens import TokenTable, UncutError, special_tokens

MARKER = re.compile("\ue000([a-z0-9_]+)\ue001")
"""A place in a text that went through a chat template."""
FIXED = 0
"""The table of fixed pieces and marks."""
MARKS = {"none": "", "dash": "-", "number": "{n}.", "letter": "{a}."}
"""What stands before a line and its blank."""
Side = Literal["sequence", "decoder"]


@dataclass(frozen=True)
class Place:
    """A place of a prompt.

    Attributes:
        name: of the template's field.
        number: of the slot, from 1.
        slot: what fills it.
        table: index of the table of its texts.
        mark: row of the first line's mark in the table of pieces; those of further lines follow.
        mark_lengths: (lines + 1,) int64 tokens of the marks of the first n lines together.
    """

    name: str
    number: int
    slot: Slot
    table: int
    mark: int
    mark_lengths: Tensor

    @property
    def lines(self) -> int:
        """How many lines it holds at most."""
        return len(self.mark_lengths) - 1


@dataclass
class Pieces:
    """What a prompt consists of.

    Attributes:
        parts: in order, a row of the table of fixed pieces, or a place.
        tables: of fixed pieces and marks, then of texts.
        answers: the texts of answers, None without any.
        end: row of the end mark of an answer in the table of pieces.
        behind_all: tokens that the tokeniser sets behind a whole text, where an answer is not to follow it.
        answer_lead: the blank between prompt and answer, or nothing.
    """

    parts: list[int | Place] = field(default_factory=list)
    tables: list[TokenTable] = field(default_factory=list)
    answers: TokenTable | None = None
    end: int = 0
    behind_all: list[int] = field(default_factory=list)
    answer_lead: Literal["", " "] = ""

    @property
    def places(self) -> list[Place]:
        """The places alone."""
        return [part for part in self.parts if isinstance(part, Place)]


class PromptTexts:
    """The texts of a prompt and its slots, before they are tokenised."""

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: Any,
        catalog: Catalog,
        slots: Mapping[str, Slot],
        answer: Answer | None,
    ) -> None:
        self.template, self.tokenizer, self.catalog = template, tokenizer, catalog
        self.slots, self.answer = slots, answer
        said = {"system": template.system, "user": template.user}
        messages = [
            Message(role=role, content=PLACE.sub("\ue000\\1\ue001", text).strip())
            for role, text in said.items()
            if text.strip()
        ]
        text, self.framed = prompt_text(tokenizer, messages)
        parts = MARKER.split(text)
        self.fixed, self.names = parts[::2], parts[1::2]
        self.kept: dict[Any, list[Line]] = {}
        """Lines that were made, while a prompt is compiled."""

    def lines(self, name: str) -> list[Line]:
        """The line of each item or user for a place, behind the one for row 0."""
        slot, key = self.slots[name], self.text_key(name)
        if key not in self.kept:
            self.kept[key] = self._lines(slot.of == "user", slot.columns, slot.empty, name)
        return self.kept[key]

    def answer_lines(self) -> list[Line]:
        """The texts of answers."""
        assert self.answer is not None
        if self.answer.texts:
            return [Line(text, (0,)) for text in self.answer.texts]
        return self._lines(False, self.answer.columns, "unknown", None)

    def _lines(
        self, users: bool, columns: tuple[TextColumn, ...], empty: str, name: str | None
    ) -> list[Line]:
        table = self.catalog.users if users else self.catalog.items
        shown = None if name is None else self.template.fields[name]
        return lines_of_rows(table, columns, empty, shown, self.template.escape, self.tokenizer)

    def text_key(self, name: str) -> tuple[Any, ...]:
        """Equal for places whose texts are the same."""
        slot, shown = self.slots[name], self.template.fields[name]
        limits = (getattr(shown, "max_chars", None), getattr(shown, "line_breaks", False))
        return (slot.of == "user", slot.columns, slot.empty, limits)

    def edges(
        self, name: str, left: str, right: str, behind: bool
    ) -> tuple[Literal["", " "], Literal["", "\n"]]:
        """The blank before a place and the line break behind it that are tokenised with its texts."""
        several = isinstance(self.template.fields[name], LinesField)
        begins = not left or left.endswith("\n")
        ends = not right or right.startswith(("\n", *control_marks(self.tokenizer)))
        if not ends or not (begins or (left.endswith(" ") and not several)):
            raise RecloomError(
                f"prompt {self.template.name!r}: {{{name}}} must stand on a line of its own"
                + ("" if several else ", or behind a label and a blank at the end of a line")
                + f"; found {left[-20:]!r} before it and {right[:20]!r} behind it"
            )
        if behind and several and not right.startswith("\n"):
            raise UncutError(right[:20])
        return "" if begins else " ", "\n" if behind and right.startswith("\n") else ""


def cut(texts: PromptTexts, side: Side, behind: bool, cache: Path | None) -> Pieces:
    """Tokenise fixed texts, marks, and the texts of all slots.

    Args:
        texts: of the prompt.
        side: whether an answer follows in the same sequence.
        behind: whether a line break belongs to what stands before it.
        cache: folder that keeps the token tables.

    Raises UncutError where the tokens of a piece are not a part of those of the piece with what stands before it.
    """
    found, rows, tables = Pieces(tables=[TokenTable.of_rows([[]])]), [], {}
    framing = ([], []) if texts.framed else special_tokens(texts.tokenizer)

    def more(said: str, text: str) -> int:
        """The row of the tokens that a text adds behind what was said."""
        first, whole = (
            texts.tokenizer(each, add_special_tokens=False)["input_ids"] if each else []
            for each in (said, said + text)
        )
        if whole[: len(first)] != first:
            raise UncutError(text)
        rows.append(whole[len(first) :])
        return len(rows) - 1

    rows.append(framing[0])
    found.parts.append(0)
    said = tail = ""
    for at, name in enumerate(texts.names):
        left, right = texts.fixed[at : at + 2]
        lead, next_tail = texts.edges(name, left, right, behind)
        fixed = left.removesuffix(lead).removeprefix(tail)
        found.parts.append(more(said, fixed))
        said, tail = said + fixed, next_tail
        marks = _marks(texts.template.fields[name], "" if tail else "\n")
        filled = said + marks[0] + (" " if marks[0] else lead) + "a" + tail
        mark = more(said, marks[0])
        for further in marks[1:]:
            more(filled, further)
        lengths = torch.tensor([0, *(len(row) for row in rows[mark:])]).cumsum(0)
        key = (texts.text_key(name), " " if marks[0] else lead, tail)
        if key not in tables:
            tables[key] = len(found.tables)
            found.tables.append(_table(texts, texts.lines(name), key[1], tail, cache))
        found.parts.append(Place(name, at + 1, texts.slots[name], tables[key], mark, lengths))
        said = filled
    fixed = texts.fixed[-1].removeprefix(tail)
    found.parts.append(more(said, fixed))
    said += fixed
    if texts.answer is not None and side == "sequence":
        found.behind_all = framing[1]
        found.answer_lead = "" if texts.framed or said[-1:] in ("", "\n", " ") else " "
    else:
        rows.append(framing[1])
        found.parts.append(len(rows) - 1)
    if texts.answer is not None:
        found.answers = _table(texts, texts.answer_lines(), found.answer_lead, "", cache)
    end = texts.tokenizer.eos_token_id if texts.answer is not None and texts.answer.end else None
    rows.append([] if end is None else [end])
    found.end = len(rows) - 1
    found.tables[FIXED] = TokenTable.of_rows(rows)
    return found


def _table(texts: PromptTexts, lines: list[Line], lead: Any, tail: Any, cache: Path | None) -> TokenTable:
    return TokenTable.build(
        [line.text for line in lines],
        texts.tokenizer,
        lead=lead,
        tail=tail,
        starts=[line.starts for line in lines],
        cache=cache,
    )


def _marks(shown: Any, between: str) -> list[str]:
    """What stands before each line of a field: the break behind the line before, and the mark."""
    if not isinstance(shown, LinesField):
        return [""]
    mark = MARKS[shown.mark]
    numbers = range(shown.max_items)
    marks = [mark.replace("{n}", str(n + 1)).replace("{a}", chr(65 + n % 26)) for n in numbers]
    return [marks[0], *(between + each for each in marks[1:])]
