"""A file of profiles: Parquet with the rows that each was built from, and beside it what failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel
from recloom.llm import Answers, Failure, failures_of, write_generated

from .kinds import Kind, as_text, schema_of
from .requests import Subject

MADE_FROM = b"recloom.profile"
"""The key of the file's metadata: what was asked of whom, and of which data."""
IDS = {"user": ("user_id",), "reason": ("user_id", "item_id")}


def write_profiles(
    out: Path,
    kind: Kind,
    about: Sequence[Subject],
    found: Answers[Any],
    prompt: str,
    made_from: dict[str, Any],
) -> tuple[int, Path | None]:
    """Write what succeeded and what failed, each file whole; the number of profiles, and the file of failures."""
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
    table = pl.DataFrame(rows, schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest())
    failed = [
        (" ".join(one.ids[name] for name in ids), answer)
        for one, answer in zip(about, found.found, strict=True)
        if isinstance(answer, Failure)
    ]
    write_generated(table, out, MADE_FROM, made_from, failed)
    return len(rows), failures_of(out) if failed else None
