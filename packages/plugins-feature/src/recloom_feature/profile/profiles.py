"""Requests of a profile, from item records and training histories, and the table of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel
from recloom.data import Catalog
from recloom.errors import DataError
from recloom.llm import (
    Answers,
    Failure,
    GeneratedTable,
    LLMRequest,
    TrainingRows,
    UserHistory,
    record_lines,
    text_records,
)
from recloom.plugins import collect

from .kinds import FACTORS, Kind, Scenario, as_text, schema_of

PROMPTS: dict[str, str] = {
    "item": "item-knowledge", "user": "user-profile", "keywords": "item-keywords", "topics": "item-topics",
    "title": "item-title", "reason": "recommendation-reason",
}  # fmt: skip
TOKENS = {"item": 700, "user": 700, "keywords": 200, "topics": 150, "title": 100, "reason": 400}
"""Tokens of an answer, by kind."""


@dataclass(frozen=True)
class History:
    """The training history of a user in lines, oldest first, and its rows in `interactions.parquet`."""

    lines: list[str]
    rows: list[int]


@dataclass(frozen=True)
class Subject:
    """The user, the item or the pair of one request.

    Attributes:
        ids: `item_id`, `user_id` or both.
        fields: values of the prompt template.
        rows: training interactions that the fields were built from.
        record: attributes of the item, where there is one.
    """

    ids: dict[str, str]
    fields: dict[str, Any]
    rows: list[int] = field(default_factory=list)
    record: dict[str, str] = field(default_factory=dict)


def histories(rows: TrainingRows, first: int | None, last: int) -> dict[str, History]:
    """The training history of each user who has one, by user id, in the order of the catalogue.

    Args:
        first: only the first min((n + 1) // 2, first) of n training interactions.
        last: else only so many of the most recent ones.
    """
    titles, every = _titles(rows.catalog.items), rows.every_history()
    if first is None:
        kept = [one.last(last) for one in every]
    else:
        counts = _prefix_lengths([len(one) for one in every], first)
        kept = [one.part(slice(count)) for one, count in zip(every, counts, strict=True)]
    return {one.user: History(_lines(one, titles), one.rows) for one in kept}


def _lines(history: UserHistory, titles: dict[str, str]) -> list[str]:
    """A title on each line, with its rating where there is one."""
    if history.values is None:
        return [titles[item] for item in history.items]
    pairs = zip(history.items, history.values, strict=True)
    return [
        titles[item] if value is None else f"{titles[item]}, rated {round(value, 2)}" for item, value in pairs
    ]


def subjects(
    kind: Kind,
    catalog: Catalog,
    records: dict[str, dict[str, str]],
    known: dict[str, History],
    pairs: pl.DataFrame | None,
    scenario: Scenario,
    topics: Sequence[str],
) -> list[Subject]:
    """The subjects of the requests: items with attributes, users with a training history, or pairs of both."""
    factors = {"factors": list(FACTORS[scenario])} if kind in ("item", "user") else {}
    listed = {"topics": list(topics)} if kind in ("user", "topics") else {}
    if kind == "user":
        known_of = text_records(catalog.users)
        return [
            Subject(
                {"user_id": user},
                {"person": record_lines(known_of.get(user, {})), "history": h.lines} | factors | listed,
                h.rows,
            )
            for user, h in known.items()
        ]
    if kind == "reason" and pairs is not None:
        return [
            Subject(
                {"user_id": user, "item_id": item},
                {"history": known[user].lines, "attributes": record_lines(records[item])},
                known[user].rows,
                records[item],
            )
            for user, item in pairs.iter_rows()
            if user in known and item in records
        ]
    return [
        Subject({"item_id": item}, {"attributes": record_lines(record)} | factors | listed, [], record)
        for item, record in records.items()
        if kind != "title" or "title" in record
    ]


def requests(kind: Kind, about: Sequence[Subject], max_tokens: int | None) -> list[LLMRequest]:
    """One request for each subject, from the prompt of its kind."""
    template = collect("register_prompts")[PROMPTS[kind]]
    prompt = f"{template.name}@{template.version}"
    limit = max_tokens or TOKENS[kind]
    return [LLMRequest(tuple(template.render(**one.fields)), prompt, max_tokens=limit) for one in about]


def read_pairs(path: Path, catalog: Catalog) -> pl.DataFrame:
    """Two columns, `user_id` and `item_id`, of a Parquet or CSV file.

    Raises DataError for a column that is missing, an id that the dataset does not list, or a duplicate pair.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the file in it, such as {path / 'predictions.parquet'}")
    try:
        table = (
            pl.read_csv(path, infer_schema=False, glob=False)
            if path.suffix == ".csv"
            else pl.read_parquet(path, glob=False)
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet or .csv: {error}") from error
    if not {"user_id", "item_id"} <= set(table.columns):
        raise DataError(f"{path} must have the columns user_id and item_id; found {', '.join(table.columns)}")
    if not len(table):
        raise DataError(f"{path} holds no row; expected a user_id and an item_id on each")
    pairs = table.select(pl.col("user_id", "item_id").cast(pl.String))
    for name, index in (("user_id", catalog.user_index), ("item_id", catalog.item_index)):
        unknown = pairs[name].filter(pl.Series(index(pairs[name]) == 0))
        if len(unknown):
            raise DataError(f"{path}: the dataset lists no {name} {unknown[0]!r}")
    if pairs.is_duplicated().any():
        raise DataError(f"{path}: the pair {pairs.filter(pairs.is_duplicated()).row(0)} is there twice")
    return pairs


def _titles(items: pl.DataFrame) -> dict[str, str]:
    """The title of each item, its id where it has none."""
    title = pl.col("title").cast(pl.String).str.strip_chars() if "title" in items.columns else pl.lit("")
    shown = pl.when(title.fill_null("") == "").then(pl.col("item_id")).otherwise(title)
    return dict(items.select("item_id", shown.alias("title")).iter_rows())


def _prefix_lengths(lengths: list[int], limit: int) -> list[int]:
    """Lengths of the knowledge prefixes of histories, which click models leave out."""
    import torch
    from recloom.data import knowledge_prefix

    found: list[int] = knowledge_prefix(torch.tensor(lengths), limit).tolist()
    return found


MADE_FROM = b"recloom.profile"
"""The metadata key of the recipe: data, prompt, language model and options."""
IDS = {"user": ("user_id",), "reason": ("user_id", "item_id")}


def profile_table(
    kind: Kind, about: Sequence[Subject], found: Answers[Any], prompt: str, notes: Sequence[str]
) -> GeneratedTable:
    """A row for each subject of which the answer could be read."""
    ids = IDS.get(kind, ("item_id",))
    rows = [
        one.ids | {"text": as_text(data)} | data | {"source": one.rows, "prompt": prompt, "key": key}
        for one, answer, key in zip(about, found.found, found.keys, strict=True)
        if isinstance(answer, BaseModel) and (data := answer.model_dump())
    ]
    schema = (
        dict.fromkeys((*ids, "text"), pl.String)
        | schema_of(kind)
        | {"source": pl.List(pl.Int64), "prompt": pl.String, "key": pl.String}
    )
    failed = [
        (" ".join(one.ids[name] for name in ids), answer)
        for one, answer in zip(about, found.found, strict=True)
        if isinstance(answer, Failure)
    ]
    return GeneratedTable(
        pl.DataFrame(rows, schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()),
        failed,
        f"{len(rows):,} of {len(about):,}, {found.retried:,} asked twice, {len(failed):,} failed",
        notes,
    )
