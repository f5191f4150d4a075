"""The table of profiles, with the rows that each was built from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from pydantic import BaseModel
from recloom.llm import Answers, Failure, GeneratedTable

from .kinds import Kind, as_text, schema_of
from .requests import Subject

MADE_FROM = b"recloom.profile"
"""The key of the file's metadata: what was asked of whom, and of which data."""
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
