"""What fills the places of a prompt that is gathered from token tables, and the texts behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from ...errors import RecloomError, at_least
from ..local.chat_template import broken, control_marks
from ..prompts import AnyField, LinesField, NumberField, PromptTemplate, TextField
from .item_text import text_records

JOINT = "; "
"""Between the columns of an item on its line."""


@dataclass(frozen=True)
class TextColumn:
    """A column of items or users in a prompt.

    Args:
        name: of the column.
        label: stands before each value, such as `genres: `.
        max_tokens: longer values are cut to so many tokens, at the end of a word piece.
    """

    name: str
    label: str = ""
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        at_least(1, max_tokens=self.max_tokens)


@dataclass(frozen=True)
class Slot:
    """What fills one place of a prompt.

    Args:
        of: items of the `history`, oldest first, one a line; one `candidate`, which makes a sequence for each
            candidate of a request; all `candidates`, one a line; or the text of the `user`.
        columns: of the items or users, joined by `; `.
        events: for a history, the codes of `history_event` that count; None = all.
        empty: stands where there is no item, no text or no known user.
    """

    of: Literal["history", "candidate", "candidates", "user"]
    columns: tuple[TextColumn, ...] = (TextColumn("title"),)
    events: tuple[int, ...] | None = None
    empty: str = "unknown"

    def __post_init__(self) -> None:
        if self.events is not None and self.of != "history":
            raise RecloomError(f"events choose items of the history; a slot of the {self.of} has none")
        if not self.columns or not self.empty.strip():
            raise RecloomError("a slot needs at least one column, and a text for `empty`")


@dataclass(frozen=True)
class Answer:
    """What follows a prompt in training: one of some texts, or the text of an item.

    Args:
        texts: such as `("No", "Yes")`; a target is an index into them.
        columns: of the items, where a target is an item index.
        end: whether the end mark of the tokeniser follows.
    """

    texts: tuple[str, ...] = ()
    columns: tuple[TextColumn, ...] = ()
    end: bool = True

    def __post_init__(self) -> None:
        if bool(self.texts) == bool(self.columns):
            raise RecloomError("an answer is one of `texts`, or an item's `columns`; give one of the two")


def check_slots(template: PromptTemplate, slots: Mapping[str, Slot]) -> None:
    """Raise RecloomError where the slots do not fill the fields of a template."""
    name, declared = template.name, template.fields
    if slots.keys() != declared.keys():
        raise RecloomError(
            f"prompt {name!r} has the fields {', '.join(sorted(declared)) or 'none'}; slots are given for "
            f"{', '.join(sorted(slots)) or 'none'}. Give each field a slot."
        )
    for key, slot in slots.items():
        shown = declared[key]
        if isinstance(shown, NumberField):
            raise RecloomError(f"prompt {name!r}: field {key!r} is a number, and no slot fills numbers")
        if isinstance(shown, TextField) and slot.of in ("history", "candidates"):
            raise RecloomError(
                f"prompt {name!r}: the {slot.of} takes several lines; make {key!r} a field of lines"
            )
        if isinstance(shown, LinesField) and slot.of in ("candidate", "user"):
            raise RecloomError(
                f"prompt {name!r}: the {slot.of} is one text; make {key!r} a field of type text"
            )
    if len({slot.of for slot in slots.values() if slot.of.startswith("candidate")}) > 1:
        raise RecloomError(f"prompt {name!r} asks for one candidate and for all of them; use one of the two")


@dataclass(frozen=True)
class Line:
    """A text of one line, and the characters at which its columns begin."""

    text: str
    starts: tuple[int, ...]


def lines_of_rows(
    table: pl.DataFrame,
    columns: Sequence[TextColumn],
    empty: str,
    field: AnyField | None,
    escape: Any,
    tokenizer: Any,
) -> list[Line]:
    """One line for each row of the items or users, in order, behind the one for row 0, which is `empty`.

    Control marks of the tokeniser are broken up, and `field` cleans and cuts as it does when a template is filled.
    """
    marks = control_marks(tokenizer)
    first = {mark[0] for mark in marks}
    records = text_records(table, [column.name for column in columns])
    ids = table[table.columns[0]].to_list()
    values: list[list[str]] = []
    for column in columns:
        texts = [records.get(id_, {}).get(column.name, "") for id_ in ids]
        texts = [broken(text, marks) if first & set(text) else text for text in texts]
        if column.max_tokens is not None:
            texts = shortened(texts, tokenizer, column.max_tokens)
        values.append([column.label + text if text else "" for text in texts])
    clean = cleaner(field, escape)
    return [_line([empty], clean), *(_line(row, clean, empty) for row in zip(*values, strict=True))]


def _line(values: Sequence[str], clean: Callable[[str], str], empty: str = "") -> Line:
    parts = [value for value in values if value] or [empty]
    numbers = [at for at, value in enumerate(values) if value] or [0]
    text = JOINT.join(parts)
    shown = clean(text)
    starts, at = [0] * len(values), 0
    for number, part in zip(numbers, parts, strict=True):
        starts[number], at = at, at + len(part) + len(JOINT)
    for number in range(len(starts) - 1, -1, -1):  # a column without a value has no characters
        if number not in numbers:
            starts[number] = starts[number + 1] if number + 1 < len(starts) else len(shown) + 1
    return Line(shown, tuple(starts))


def cleaner(field: AnyField | None, escape: Any) -> Callable[[str], str]:
    """How a field of a template shows a text, without the mark of its line."""
    if field is None:
        return lambda text: " ".join(text.split())
    if field.type == "lines":
        unmarked = field.model_copy(update={"mark": "none"})
        return lambda text: unmarked.render([text], escape)
    shown: Any = field
    return lambda text: str(shown.render(text, escape))


def shortened(texts: Sequence[str], tokenizer: Any, limit: int) -> list[str]:
    """Texts of at most `limit` tokens each; longer ones lose their end."""
    found = list(texts)
    todo = [at for at, text in enumerate(found) if text]
    while todo:
        rows = tokenizer([found[at] for at in todo], add_special_tokens=False, return_offsets_mapping=True)
        long = [n for n, row in enumerate(rows["input_ids"]) if len(row) > limit]
        for n in long:
            text = found[todo[n]]
            stop = min(rows["offset_mapping"][n][limit - 1][1], len(text) - 1)
            found[todo[n]] = text[:stop].rstrip()
        todo = [todo[n] for n in long if found[todo[n]]]
    return found
