"""What SeRALM (reconstruction, see `seralm.py`) asks about an item, and the texts among the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from recloom.data.catalog import Catalog
from recloom.errors import DataError
from recloom.language.answers import failure_lines
from recloom.language.asking import Asked
from recloom.language.generated import failures_of
from recloom.language.question import Failure, Question
from recloom.plugins import collect
from recloom.prompts import PromptTemplate
from recloom.runfolder import write_text

from .seralm_folder import write_table

MADE_FROM = b"recloom.seralm.texts"
"""The key of the file's metadata: what was asked of whom, and of which data."""
LINES = 20
"""Columns of an item that a question shows at most."""


@dataclass(frozen=True)
class Written:
    """What came of the questions: texts, items that have any, questions that failed, items whose texts are all equal.

    An item with one text alone does not count among the latter.
    """

    texts: int
    items: int
    failures: int
    alike: int


def item_questions(
    catalog: Catalog, columns: list[str] | None, k: int, temperature: float, max_tokens: int, seed: int
) -> tuple[list[str], list[Question]]:
    """Ids and questions of the items that have anything in these columns."""
    chosen = (columns or catalog.text_columns())[:LINES]
    absent = [name for name in chosen if name not in catalog.items.columns]
    if absent:
        raise DataError(
            f"the items have no column {absent[0]!r}; they have {', '.join(catalog.items.columns)}"
        )
    prompt: PromptTemplate = collect("register_prompts")["seralm"]
    rows = catalog.items.select("item_id", *(pl.col(name).cast(pl.String) for name in chosen)).iter_rows()
    ids, questions = [], []
    for item_id, *values in rows:
        record = [
            f"{name}: {value}" for name, value in zip(chosen, values, strict=True) if value and value.strip()
        ]
        if record:
            ids.append(item_id)
            questions.append(
                Question(
                    tuple(prompt.render(record=record)), f"{prompt.name}@{prompt.version}", k, temperature,
                    max_tokens, seed,
                )
            )  # fmt: skip
    if not ids:
        raise DataError(f"no item has anything in {', '.join(chosen)}; name other --columns")
    return ids, questions


def write_answers(out: Path, ids: list[str], asked: Asked, made: Mapping[str, Any]) -> Written:
    """Write the answers that say something, numbered from 0 for each item, and what failed beside them.

    `made`, what was asked of whom, goes into the file's metadata.
    """
    rows, failed = [], []
    for item_id, key, reply in zip(ids, asked.keys, asked.replies, strict=True):
        said = [] if isinstance(reply, Failure) else [t for t in (text.strip() for text in reply.texts) if t]
        if not said:
            failed.append(
                (item_id, reply if isinstance(reply, Failure) else Failure("all answers are empty"))
            )
        rows += [(item_id, variant, text, key) for variant, text in enumerate(said)]
    beside = failures_of(out)
    if failed:
        write_text(beside, failure_lines(failed))
    else:
        beside.unlink(missing_ok=True)
    if not rows:
        raise DataError(
            f"none of {len(ids):,} questions gave a text; the first failed: {failed[0][1].reason}. All reasons are "
            f"in {beside}."
        )
    kinds = {"item_id": pl.String, "variant": pl.Int32, "text": pl.String, "key": pl.String}
    table = pl.DataFrame(rows, schema=kinds, orient="row")
    write_table(out, table, {MADE_FROM.decode(): json.dumps(made, sort_keys=True)})
    several = table.group_by("item_id").agg(pl.len().alias("rows"), pl.col("text").n_unique().alias("texts"))
    alike = len(several.filter((pl.col("rows") > 1) & (pl.col("texts") == 1)))
    return Written(len(rows), len(ids) - len(failed), len(failed), alike)
