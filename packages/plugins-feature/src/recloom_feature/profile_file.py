"""A file of profiles: Parquet with the rows that each was built from, and beside it what failed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel
from recloom.errors import RecloomError
from recloom.language.answers import Answers, failure_lines
from recloom.language.question import Failure

from .profile_kinds import Kind, as_text, schema_of
from .profile_questions import Subject

MADE_FROM = b"recloom.profile"
"""The key of the file's metadata: what was asked of whom, and of which data."""
IDS = {"user": ("user_id",), "reason": ("user_id", "item_id")}


def refuse_other(out: Path, made_from: dict[str, Any], overwrite: bool) -> None:
    """Raise RecloomError where `out` cannot be written, or holds something else than the same run would write."""
    if not out.parent.is_dir():
        raise RecloomError(f"{out.parent} is not a folder; make it, or choose another --out")
    if overwrite or not out.exists():
        return
    try:
        found = json.loads((pq.read_schema(out).metadata or {}).get(MADE_FROM, b"{}"))
    except (pa.ArrowInvalid, OSError, ValueError):
        found = {}
    wanted = json.loads(_line(made_from))
    differing = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if differing:
        raise RecloomError(
            f"{out} exists and was made with another {', '.join(differing) if found else 'command'}. Choose another "
            "--out, or replace it with --overwrite."
        )


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
    beside = out.with_suffix(".failures.jsonl")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        if failed:
            temporary.write_text(failure_lines(failed), "utf-8")
            temporary.replace(beside)
        else:
            beside.unlink(missing_ok=True)
        pq.write_table(table.replace_schema_metadata({MADE_FROM: _line(made_from).encode()}), temporary)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows), beside if failed else None


def _line(made_from: dict[str, Any]) -> str:
    return json.dumps(made_from, sort_keys=True, ensure_ascii=False)
