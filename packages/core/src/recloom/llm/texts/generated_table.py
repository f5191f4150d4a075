"""A table that a language model made: Parquet, whole or absent, its recipe in its metadata, its failures beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import RecloomError
from ...io import whole_file, writable, write_text
from ..requests import Failure
from ..structured import failure_lines


def refuse_another(out: Path, key: bytes, recipe: Mapping[str, Any], overwrite: bool) -> None:
    """Raise RecloomError where `out` lies in no folder, is not named as Parquet, or is not what this recipe gives.

    The same recipe may be run again: what failed is then asked again, and the rest comes from the ledger.
    """
    writable(out, endings=(".parquet",))
    if overwrite or not out.exists():
        return
    try:
        found = json.loads((pq.read_metadata(out).metadata or {}).get(key, b"{}"))
    except (pa.ArrowInvalid, OSError, ValueError):
        found = {}
    wanted = json.loads(json.dumps(recipe))
    differing = [name for name, value in wanted.items() if found.get(name) != value]
    if differing:
        otherwise = f"with another {', '.join(differing)}" if found else "by another command"
        raise RecloomError(
            f"{out} exists and was made {otherwise}. Choose another --out, or replace it with --overwrite."
        )


def failures_of(out: Path) -> Path:
    """The file beside `out` that lists what failed."""
    return out.with_name(f"{out.stem}.failures.jsonl")


def write_generated(
    table: pa.Table, out: Path, key: bytes, facts: Mapping[str, Any], failures: Sequence[tuple[str, Failure]]
) -> None:
    """Write the failures, then the table with its facts; without failures there is no such file."""
    beside = failures_of(out)
    if failures:
        write_text(beside, failure_lines(failures))
    else:
        beside.unlink(missing_ok=True)
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    with whole_file(out) as partial:
        pq.write_table(table.replace_schema_metadata({key: text.encode()}), partial)
