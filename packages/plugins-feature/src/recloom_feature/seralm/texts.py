"""The texts of SeRALM (reconstruction, see `command.py`): given, or K sampled answers about each item; then encoded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
from recloom.data import Catalog
from recloom.errors import DataError
from recloom.llm import (
    Failure,
    GeneratedTable,
    LLMRequest,
    LLMResult,
    PromptTemplate,
    TextEncoder,
    record_lines,
    reusable_vectors,
    text_records,
    write_vectors,
)
from recloom.plugins import collect

from .tables import METHOD, WorkFolder, places, read_table, write_table

MADE_FROM = b"recloom.seralm.texts"
"""The metadata key of the recipe: data, prompt, language model and options."""
LINES = 20
"""Columns of an item that a request shows by default."""


def item_requests(
    catalog: Catalog, columns: list[str] | None, k: int, temperature: float, max_tokens: int, seed: int
) -> tuple[list[str], list[LLMRequest]]:
    """Ids and requests of the items with a value in these columns, by default all text columns."""
    chosen = columns or catalog.text_columns()[:LINES]
    prompt: PromptTemplate = collect("register_prompts")["seralm"]
    known_as = f"{prompt.name}@{prompt.version}"
    records = text_records(catalog.items, chosen)
    if not records:
        raise DataError(f"no item has anything in {', '.join(chosen)}; name other --columns")
    requests = [
        LLMRequest(tuple(prompt.render(record=record_lines(one))), known_as, k, temperature, max_tokens, seed)
        for one in records.values()
    ]
    return list(records), requests


def answers_table(ids: list[str], result: LLMResult) -> GeneratedTable:
    """The table of the answers that are not empty, numbered from 0 for each item."""
    rows, failed = [], []
    for item_id, key, response in zip(ids, result.keys, result.responses, strict=True):
        texts = [] if isinstance(response, Failure) else [t for t in map(str.strip, response.texts) if t]
        if not texts:
            failed.append(
                (item_id, response if isinstance(response, Failure) else Failure("all answers are empty"))
            )
        rows += [(item_id, variant, text, key) for variant, text in enumerate(texts)]
    kinds = {"item_id": pl.String, "variant": pl.Int32, "text": pl.String, "key": pl.String}
    table = pl.DataFrame(rows, schema=kinds, orient="row")
    several = table.group_by("item_id").agg(pl.len().alias("rows"), pl.col("text").n_unique().alias("texts"))
    alike = len(several.filter((pl.col("rows") > 1) & (pl.col("texts") == 1)))
    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    first = failed[0][1].reason if failed else ""
    return GeneratedTable(
        arrow.replace_schema_metadata({"recloom.method": METHOD}),
        failed,
        f"{len(rows):,} texts of {len(ids) - len(failed):,} items, {len(failed):,} failed",
        [f"{alike:,} items got one text every time, so that nothing is to be chosen for them"]
        if alike
        else [],
        empty=f"none of {len(ids):,} requests gave a text; the first failed: {first}",
    )


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


def texts_identity(texts: pl.DataFrame) -> dict[str, int | str]:
    """Number of rows and digest of a table of texts, for the settings of a work folder."""
    rows = texts.sort("item_id", "variant").select("item_id", "variant", "text").rows()
    return {"rows": len(rows), "sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]}


def encode_texts(texts: pl.DataFrame, encoder: TextEncoder, folder: WorkFolder) -> None:
    """Write `texts.parquet`, and `variants.parquet` with a vector for each; an interrupted run continues."""
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
