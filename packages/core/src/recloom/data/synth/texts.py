"""Titles and descriptions for invented items: each title holds words of its topic, and none occurs twice."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl
import yaml

from ..card import Domain

Ints = np.ndarray[Any, np.dtype[np.int64]]
_LISTS = {"name": "names", "brand": "names", "town": "towns"}
"""Placeholders whose words the topics of a domain share."""


def vocabulary(like: Domain) -> dict[str, Any]:
    """The words of one domain: `titles`, `names`, `towns`, `leads`, `openings`, and `topics` with theirs."""
    source = files(__package__).joinpath("words.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(source)[like]
    return found


def item_texts(like: Domain, topics: Ints, random: np.random.Generator) -> pl.DataFrame:
    """`title`, `category` and `description` for items with the given topics (num_items,)."""
    words = vocabulary(like)
    frames = []
    for topic, name in enumerate(words["topics"]):
        rows = np.flatnonzero(topics == topic)
        texts = _titles(words, words["topics"][name], len(rows), random)
        texts = _described(texts, words, words["topics"][name]["scene"], random)
        frames.append(texts.with_columns(pl.Series("row", rows), pl.lit(name).alias("category")))
    table = pl.concat(frames).sort("row")
    if like == "movies":
        year = pl.Series(random.integers(1950, 2025, len(topics))).cast(pl.String)
        table = table.with_columns(pl.col("title") + " (" + year + ")")
    return table.select("title", "category", "description")


def _titles(
    words: dict[str, Any], topic: dict[str, list[str]], count: int, random: np.random.Generator
) -> pl.DataFrame:
    """`title` and `noun`, distinct, the templates in equal shares; numbered sequels once words run out."""
    forms = [_fill(template, words, topic, random) for template in words["titles"]]
    every = (
        pl.concat(forms).sort("rank", maintain_order=True).unique("title", keep="first", maintain_order=True)
    )
    place = np.arange(count)
    sequel = place // every.height + 1
    title = every["title"].gather(place % every.height)
    numbered = pl.select(
        pl.when(pl.Series(sequel > 1)).then(pl.format("{}, Part {}", title, sequel)).otherwise(title)
    )
    return pl.DataFrame({"title": numbered.to_series(), "noun": every["noun"].gather(place % every.height)})


def _fill(
    template: str, words: dict[str, Any], topic: dict[str, list[str]], random: np.random.Generator
) -> pl.DataFrame:
    """All titles of one template in random order, with the noun they hold."""
    table = pl.DataFrame({"noun": topic["noun"]})
    slots = re.findall(r"{(\w+)}", template)
    for slot in dict.fromkeys(slots):
        if slot != "noun":
            table = table.join(
                pl.DataFrame({slot: words[_LISTS[slot]] if slot in _LISTS else topic[slot]}), how="cross"
            )
    title = pl.format(re.sub(r"{\w+}", "{}", template), *slots)
    rank = pl.Series("rank", random.permutation(table.height))
    return table.select(_articles(title).alias("title"), "noun", rank)


def _described(
    texts: pl.DataFrame, words: dict[str, Any], scenes: list[str], random: np.random.Generator
) -> pl.DataFrame:
    def drawn(choices: list[str]) -> pl.Series:
        return pl.Series(choices, dtype=pl.String).gather(random.integers(len(choices), size=texts.height))

    noun = pl.col("noun").str.to_lowercase()
    sentence = pl.format(
        "{} {} {}, {}.", drawn(words["leads"]), drawn(words["openings"]), noun, drawn(scenes)
    )
    return texts.with_columns(_articles(sentence).alias("description"))


def _articles(text: pl.Expr) -> pl.Expr:
    """`an` before a vowel sound."""
    return text.str.replace_all(r"\b([Aa]) ([AEIOaeio]|[Uu]n[^i])", "${1}n $2")
