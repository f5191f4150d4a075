"""Vectors of the texts of several layers: each text is encoded once, those of a node are concatenated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from recloom.data import ENCODER, ORIGIN, read_card
from recloom.errors import DataError
from recloom.io import whole_file

from .refine import MADE_FROM

LAYERS = "layers"
"""How many layers a vector holds, beside the options of the encoder in the metadata of its file."""


def read_layers(path: Path, key: str, data: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The id and `layer_0`, `layer_1`, ... of a file of `recloom graph refine`, and what it was made from."""
    if not path.is_file():
        raise DataError(f"{path} does not exist. Write it with `recloom graph refine {data}`.")
    try:
        metadata = pq.read_metadata(path).metadata or {}
        table = pl.read_parquet(path, glob=False)
    except (pa.ArrowInvalid, OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    made = json.loads(metadata.get(MADE_FROM, b"{}"))
    if not made or key not in table.columns:
        raise DataError(f"{path} was not written by `recloom graph refine`; choose another --folder")
    if made["data_hash"] != read_card(data).data_hash():
        raise DataError(
            f"{path} was written from other data than {data}. Refine the texts of these data first."
        )
    return table.select(key, pl.col("^layer_[0-9]+$")), made


def distinct(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One column, `text`: every text of any layer once, empty ones left out."""
    columns = [table[name] for table in tables for name in table.columns[1:]]
    return (
        pl.DataFrame({"text": pl.concat(column.alias("text") for column in columns)})
        .filter(pl.col("text") != "")
        .unique(maintain_order=True)
    )


def write_layers(
    layers: pl.DataFrame, encoded: Path, identity: Mapping[str, Any], made: Mapping[str, Any], out: Path
) -> int:
    """Write a vector for each row with a text in any layer; how many there are. Without any, nothing is written.

    Args:
        layers: the id, and a column of texts for each of the L layers.
        encoded: Parquet file of `text` and `vector` (d numbers).
        identity: of the encoder.
        made: what the texts were made from.
        out: Parquet file of the id and `vector`: L * d numbers, zeros where a layer has no text.
    """
    key, *names = layers.columns
    known = pl.read_parquet(encoded, columns=["text", "vector"], glob=False)
    table = np.vstack([np.zeros((1, known["vector"].dtype.shape[0]), np.float32), known["vector"].to_numpy()])  # type: ignore[attr-defined]
    texts = pl.Enum(known["text"])
    codes = [layers[name].cast(texts, strict=False).to_physical().cast(pl.Int64) + 1 for name in names]
    places = np.stack([code.fill_null(0).to_numpy() for code in codes], 1)  # (n, L)
    has_text = places.any(1)
    if not has_text.any():
        return 0
    vectors = table[places[has_text]].reshape(int(has_text.sum()), -1).astype(np.float32)  # (n', L * d)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    rows = pa.table(
        {
            key: layers[key].filter(pl.Series(has_text)).to_arrow(compat_level=pl.CompatLevel.oldest()),
            "vector": flat,
        }
    )
    origin = {"texts": f"refined-{key.removesuffix('_id')}s.parquet", "columns": names}
    if "split_hash" in made:
        origin |= {name: made[name] for name in ("data_hash", "split_hash")}
    metadata = {ENCODER: dict(identity) | {LAYERS: len(names)}, ORIGIN: origin}
    stored = {name: json.dumps(value, sort_keys=True).encode() for name, value in metadata.items()}
    with whole_file(out) as partial:
        pq.write_table(rows.replace_schema_metadata(stored), partial)
    return len(rows)
