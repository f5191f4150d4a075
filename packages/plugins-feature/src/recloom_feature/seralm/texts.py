"""What SeRALM (reconstruction, see `seralm.py`) asks about an item, and the texts among the answers.

The texts of SeRALM (reconstruction, see `seralm.py`): given, or K sampled answers about each item; then encoded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from recloom.data import Catalog
from recloom.errors import DataError
from recloom.io import write_text
from recloom.llm import (
    Failure,
    LLMRequest,
    LLMResult,
    PromptTemplate,
    TextEncoder,
    failure_lines,
    failures_of,
    reusable_vectors,
    write_vectors,
)
from recloom.plugins import collect

from .tables import WorkFolder, places, read_table, write_table

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
) -> tuple[list[str], list[LLMRequest]]:
    """Ids and questions of the items that have anything in these columns."""
    chosen = (columns or catalog.text_columns())[:LINES]
    absent = [name for name in chosen if name not in catalog.items.columns]
    if absent:
        raise DataError(
            f"the items have no column {absent[0]!r}; they have {', '.join(catalog.items.columns)}"
        )
    prompt: PromptTemplate = collect("register_prompts")["seralm"]
    rows = catalog.items.select("item_id", *(pl.col(name).cast(pl.String) for name in chosen)).iter_rows()
    ids, requests = [], []
    for item_id, *values in rows:
        record = [
            f"{name}: {value}" for name, value in zip(chosen, values, strict=True) if value and value.strip()
        ]
        if record:
            ids.append(item_id)
            requests.append(
                LLMRequest(
                    tuple(prompt.render(record=record)), f"{prompt.name}@{prompt.version}", k, temperature,
                    max_tokens, seed,
                )
            )  # fmt: skip
    if not ids:
        raise DataError(f"no item has anything in {', '.join(chosen)}; name other --columns")
    return ids, requests


def write_answers(out: Path, ids: list[str], asked: LLMResult, made: Mapping[str, Any]) -> Written:
    """Write the answers that say something, numbered from 0 for each item, and what failed beside them.

    `made`, what was asked of whom, goes into the file's metadata.
    """
    rows, failed = [], []
    for item_id, key, response in zip(ids, asked.keys, asked.responses, strict=True):
        said = (
            []
            if isinstance(response, Failure)
            else [t for t in (text.strip() for text in response.texts) if t]
        )
        if not said:
            failed.append(
                (item_id, response if isinstance(response, Failure) else Failure("all answers are empty"))
            )
        rows += [(item_id, variant, text, key) for variant, text in enumerate(said)]
    beside = failures_of(out)
    if failed:
        write_text(beside, failure_lines(failed))
    else:
        beside.unlink(missing_ok=True)
    if not rows:
        raise DataError(
            f"none of {len(ids):,} requests gave a text; the first failed: {failed[0][1].reason}. All reasons are "
            f"in {beside}."
        )
    kinds = {"item_id": pl.String, "variant": pl.Int32, "text": pl.String, "key": pl.String}
    table = pl.DataFrame(rows, schema=kinds, orient="row")
    write_table(out, table, {MADE_FROM.decode(): json.dumps(made, sort_keys=True)})
    several = table.group_by("item_id").agg(pl.len().alias("rows"), pl.col("text").n_unique().alias("texts"))
    alike = len(several.filter((pl.col("rows") > 1) & (pl.col("texts") == 1)))
    return Written(len(rows), len(ids) - len(failed), len(failed), alike)


def given_texts(path: Path, catalog: Catalog) -> pl.DataFrame:
    """`item_id`, `variant`, `text` of the items of the catalogue; DataError where the file is not such a table."""
    table = read_table(path, ("item_id", "variant", "text"))
    known = table.filter(pl.Series(catalog.item_index(table["item_id"]) > 0))
    if not len(known):
        raise DataError(f"{path} has no text of any of the {catalog.num_items:,} items of this dataset")
    places(known, catalog, path)
    if known["text"].dtype != pl.String:
        raise DataError(f"{path}: column text must hold texts; found {known['text'].dtype}")
    blank = known.filter(pl.col("text").fill_null("").str.strip_chars() == "")
    if len(blank):
        raise DataError(
            f"{path}: text {blank['variant'][0]} of item {blank['item_id'][0]!r} is blank; leave its row out"
        )
    return known.with_columns(pl.col("variant").cast(pl.Int32))


def told(texts: pl.DataFrame) -> dict[str, int | str]:
    """What identifies a table of texts in the settings of a folder."""
    rows = texts.sort("item_id", "variant").select("item_id", "variant", "text").rows()
    return {"rows": len(rows), "sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]}


def encode_texts(texts: pl.DataFrame, encoder: TextEncoder, folder: WorkFolder) -> None:
    """Write `texts.parquet`, and `variants.parquet` with a vector for each; an interrupted run goes on."""
    if folder.has("variants.parquet"):
        return
    write_table(folder.file("texts.parquet"), texts)
    encoded, spec = folder.file("encoded.parquet"), json.dumps(encoder.identity, sort_keys=True)
    distinct = texts.select("text").unique(maintain_order=True)
    write_vectors(
        distinct, "text", encoder, spec, reusable_vectors(encoded, "text", spec, overwrite=False), encoded
    )
    vectors = pl.read_parquet(encoded, glob=False).select("text", "vector")
    joined = texts.join(vectors, on="text", how="left", maintain_order="left")
    write_table(folder.file("variants.parquet"), joined.select("item_id", "variant", "vector"))
