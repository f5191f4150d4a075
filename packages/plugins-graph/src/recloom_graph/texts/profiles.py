"""Profiles of RLMRec (Ren et al., WWW 2024): who would like each item, and then what each user likes.

An item is shown by its title and its description or, where it has none, its attributes; a user by a sample of
training items, each with its title and profile. Only the summarization is encoded; the reasoning is requested because
it improves the summarization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from recloom.data import Catalog
from recloom.errors import DataError
from recloom.llm import (
    Answers,
    Failure,
    GeneratedTable,
    LLMRequest,
    TextRecord,
    record_lines,
    text_records,
)
from recloom.plugins import collect

from .neighbours import Shown

MADE_FROM = b"recloom.rlmrec"
"""The metadata key of the recipe: data, prompts, language model and options."""
UNKNOWN = "word " * 200
"""Stand-in for the profile of an item, where costs are planned."""


def at_most(words: int) -> Callable[[str], str]:
    """A validator of the length of a text."""

    def check(text: str) -> str:
        text = text.strip()
        found = len(text.split())
        if not any(character.isalnum() for character in text):
            raise ValueError("expected letters or digits, or None")
        if found > words:
            raise ValueError(f"must have at most {words} words, found {found}")
        return text

    return check


class Profile(BaseModel):
    """The answer schema for an item: who would like it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    summarization: Annotated[str, Field(max_length=4000), AfterValidator(at_most(200))]
    reasoning: Annotated[str, Field(max_length=4000), AfterValidator(at_most(200))]

    @property
    def none(self) -> bool:
        """Whether the model answers that it has nothing to say."""
        return self.summarization.strip(" .'\"").casefold() == "none"


class UserProfile(Profile):
    """The answer schema for a user: what they like."""

    summarization: Annotated[str, Field(max_length=2000), AfterValidator(at_most(100))]


def item_records(catalog: Catalog, description: str, columns: Sequence[str] | None) -> dict[str, TextRecord]:
    """By id title and description of each item that has one, else title and attributes; what has neither is left out.

    Args:
        description: a column of the items, which they need not have.
        columns: the attributes that replace it; None = all.
    """
    everything, chosen = text_records(catalog.items), text_records(catalog.items, columns)
    found = {}
    for item, record in everything.items():
        title = {"title": record["title"]} if "title" in record else {}
        described = {description: record[description]} if description in record else chosen.get(item, {})
        found[item] = title | described
    kept = {item: record for item, record in found.items() if record}
    if not kept:
        raise DataError("no item has a title or an attribute that a language model could be shown")
    return kept


def about_items(records: Mapping[str, TextRecord], tokens: int) -> list[LLMRequest]:
    """One request for each item."""
    return _requests("rlmrec-item", "record", [record_lines(record) for record in records.values()], tokens)


def about_users(
    shown: Mapping[str, Shown], titles: Mapping[str, str], profiles: Mapping[str, str], tokens: int
) -> list[LLMRequest]:
    """One request for each user: the sampled items, each with its title and, where there is one, its profile."""
    return _requests(
        "rlmrec-user",
        "items",
        [
            [f"{titles[item]}: {profiles[item]}" if item in profiles else titles[item] for item in one.ids]
            for one in shown.values()
        ],
        tokens,
    )


def placeholder_profiles(shown: Mapping[str, Shown], items: Mapping[str, TextRecord]) -> dict[str, str]:
    """Stand-ins for the profiles of items in a plan: of full length, and no two alike."""
    return {item: f"{item} {UNKNOWN}" for one in shown.values() for item in one.ids if item in items}


def summarizations(items: Mapping[str, TextRecord], found: Answers[Profile]) -> dict[str, str]:
    """The summarization of each item that has one."""
    pairs = zip(items, found.found, strict=True)
    return {item: one.summarization for item, one in pairs if isinstance(one, Profile) and not one.none}


def profile_table(
    key: str, about: Mapping[str, Shown], requests: Sequence[LLMRequest], found: Answers[Any]
) -> GeneratedTable:
    """The table with a row for each item or user that has a profile.

    Args:
        key: `item_id` or `user_id`.
        about: by id, which training items and rows each was made from.
    """
    answered = list(zip(about.items(), requests, found.found, found.keys, strict=True))
    rows = [
        {key: id_, "text": one.summarization, "reasoning": one.reasoning, "items": shown.ids, "source": shown.rows}
        | {"prompt": request.prompt, "key": response}
        for (id_, shown), request, one, response in answered
        if isinstance(one, Profile) and not one.none
    ]  # fmt: skip
    texts, kinds = pl.String, {"items": pl.List(pl.String), "source": pl.List(pl.Int64)}
    names = (key, "text", "reasoning", "items", "source", "prompt", "key")
    table = pl.DataFrame(rows, schema={name: kinds.get(name, texts) for name in names})
    failures = [(id_, one) for (id_, _), _, one, _ in answered if isinstance(one, Failure)]
    none = len(answered) - len(rows) - len(failures)
    counts = f"{len(rows):,} of {len(answered):,}, {found.retried:,} asked twice, {len(failures):,} failed"
    return GeneratedTable(
        table.to_arrow(compat_level=pl.CompatLevel.oldest()),
        failures,
        f"{key.removesuffix('_id')}s {counts}" + (f", {none:,} without a profile" if none else ""),
    )


def _requests(name: str, field: str, lines: Sequence[list[str]], tokens: int) -> list[LLMRequest]:
    template = collect("register_prompts")[name]
    known_as = f"{template.name}@{template.version}"
    return [LLMRequest(tuple(template.render(**{field: one})), known_as, max_tokens=tokens) for one in lines]
