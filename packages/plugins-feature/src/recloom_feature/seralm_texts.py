"""The texts of SeRALM (reconstruction, see `seralm.py`): given, or K sampled answers about each item; then encoded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
from recloom.data.catalog import Catalog
from recloom.errors import DataError
from recloom.language import TextEncoder
from recloom.language.text_vectors import reusable, write_vectors

from .seralm_folder import Folder, write_table
from .seralm_tables import places, read_table


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


def encode_texts(texts: pl.DataFrame, encoder: TextEncoder, folder: Folder) -> None:
    """Write `texts.parquet`, and `variants.parquet` with a vector for each; an interrupted run goes on."""
    if folder.has("variants.parquet"):
        return
    write_table(folder.file("texts.parquet"), texts)
    encoded, spec = folder.file("encoded.parquet"), json.dumps(encoder.identity, sort_keys=True)
    distinct = texts.select("text").unique(maintain_order=True)
    write_vectors(distinct, "text", encoder, spec, reusable(encoded, "text", spec, overwrite=False), encoded)
    vectors = pl.read_parquet(encoded, glob=False).select("text", "vector")
    joined = texts.join(vectors, on="text", how="left", maintain_order="left")
    write_table(folder.file("variants.parquet"), joined.select("item_id", "variant", "vector"))
