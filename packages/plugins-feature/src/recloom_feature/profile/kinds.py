"""Answer schemas of `recloom profile`: a pydantic model for each kind of profile of an item, a user or a pair.

Factors are those of KAR's analysis of preferences and items (Xi et al., RecSys 2024); the general ones are ours.
Values outside a closed list, unknown keys and empty texts are errors, never mended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

Kind = Literal["item", "user", "keywords", "topics", "title", "reason"]
Scenario = Literal["general", "movies", "books"]
FACTORS: dict[str, tuple[str, ...]] = {
    "general": ("category", "theme", "style", "mood", "time and place", "maker", "quality", "purpose"),
    "movies": (
        "genre", "director and actors", "period and country", "character", "plot and theme", "mood and tone",
        "acclaim and awards", "production quality", "soundtrack",
    ),
    "books": (
        "genre", "author", "style", "theme", "setting", "length and complexity", "period", "literary quality",
        "acclaim",
    ),
}  # fmt: skip
TOPICS = (
    "animals", "art", "business", "cars", "children", "comedy", "crime", "education", "family", "fantasy", "fashion",
    "finance", "food", "games", "health", "history", "home", "music", "nature", "politics", "religion", "romance",
    "science", "society", "sport", "technology", "travel", "war",
)  # fmt: skip
"""The closed list of topics, by default."""


def _with_words(text: str) -> str:
    if not any(character.isalnum() for character in text):  # `...` is what a prompt shows, not an answer
        raise ValueError("expected letters or digits")
    return text.strip()


def _distinct(values: list[str]) -> list[str]:
    if len({value.casefold() for value in values}) < len(values):
        raise ValueError("holds a value twice")
    return values


Sentence = Annotated[str, Field(max_length=1200), AfterValidator(_with_words)]
Word = Annotated[str, Field(max_length=60), AfterValidator(_with_words)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Keywords(Strict):
    """Search keywords of an item."""

    keywords: Annotated[list[Word], Field(min_length=1, max_length=10), AfterValidator(_distinct)]


class Title(Strict):
    """A rewritten title."""

    title: Annotated[str, Field(max_length=200, pattern=r"^[^\n\r]*$"), AfterValidator(_with_words)]


class Citation(Strict):
    """An attribute of an item, and the part of its value that is cited."""

    attribute: Word
    value: Annotated[str, Field(max_length=1000), AfterValidator(_with_words)]


class Reason(Strict):
    """A recommendation reason, and the attributes that it cites."""

    reason: Sentence
    cites: Annotated[list[Citation], Field(min_length=1, max_length=8)]


def closed(values: Sequence[str]) -> Any:
    """The type of a string that must be one of these."""
    return Literal[tuple(values)]


def some_of(values: Sequence[str], least: int, most: int) -> Any:
    """The type of a list of these, none of them twice."""
    one = closed(values)
    return Annotated[list[one], Field(min_length=least, max_length=most), AfterValidator(_distinct)]  # type: ignore[valid-type]


def model_of(kind: Kind, scenario: Scenario, topics: Sequence[str]) -> type[BaseModel]:
    """The model of a kind; factors and topics are closed lists in it."""
    fixed: dict[str, type[BaseModel]] = {"keywords": Keywords, "title": Title, "reason": Reason}
    if kind in fixed:
        return fixed[kind]
    if kind == "topics":
        return create_model("Topics", __base__=Strict, topics=some_of(topics, 1, 3))
    aspect = create_model("Aspect", __base__=Strict, factor=closed(FACTORS[scenario]), note=Sentence)
    aspects = Annotated[list[aspect], Field(min_length=1, max_length=len(FACTORS[scenario]))]  # type: ignore[valid-type]
    if kind == "item":
        return create_model("ItemKnowledge", __base__=Strict, summary=Sentence, aspects=aspects)
    interests = some_of(topics, 0, 5)
    return create_model("UserProfile", __base__=Strict, summary=Sentence, aspects=aspects, topics=interests)


COLUMNS: dict[str, tuple[str, ...]] = {
    "item": ("summary", "aspects"),
    "user": ("summary", "aspects", "topics"),
    "keywords": ("keywords",),
    "topics": ("topics",),
    "title": ("title",),
    "reason": ("reason", "cites"),
}
"""The columns of a kind beside ids and `text`."""


def schema_of(kind: Kind) -> dict[str, Any]:
    """Polars types of the columns of a kind."""
    import polars as pl

    text, texts = pl.String, pl.List(pl.String)
    kinds: dict[str, Any] = {
        "summary": text, "title": text, "reason": text, "keywords": texts, "topics": texts,
        "aspects": pl.List(pl.Struct({"factor": text, "note": text})),
        "cites": pl.List(pl.Struct({"attribute": text, "value": text})),
    }  # fmt: skip
    return {name: kinds[name] for name in COLUMNS[kind]}


def as_text(found: Mapping[str, Any]) -> str:
    """A profile as one text, which an encoder can read."""
    parts = [found[name] for name in ("summary", "title", "reason") if name in found]
    parts += [f"{aspect['factor']}: {aspect['note']}" for aspect in found.get("aspects", ())]
    parts += [", ".join(found[name]) for name in ("keywords", "topics") if found.get(name)]
    return "\n".join(parts)


def wrong_citation(reason: Reason, record: Mapping[str, str]) -> str:
    """The first citation that the item's record does not hold, as an error; "" where it holds all.

    A value is held if its letters follow each other in the attribute, as whole words, in any size and with any
    blanks between them: a prompt puts blanks into what looks like a delimiter, and an ellipsis where it cuts.
    """
    for cite in reason.cites:
        if cite.attribute not in record:
            return f"cites: the record has no attribute {cite.attribute!r}; it has {', '.join(record)}"
        letters = "".join(cite.value.removesuffix("…").casefold().split())
        words = r"\s*".join(map(re.escape, letters))
        end = "" if cite.value.endswith("…") else r"(?!\w)"
        if not letters or not re.search(rf"(?<!\w){words}{end}", record[cite.attribute].casefold()):
            return f"cites: {cite.attribute} of the record does not hold {cite.value[:80]!r}"
    return ""
