"""Texts of items or users to vectors, as a Parquet file that models read.

A vector is kept with the hash of its text. What the file holds for the same encoder and text is not computed
again, so a second run over changed data encodes what changed; an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ...data.provenance import ENCODER, ORIGIN, provenance_of
from ...data.readers.plain_table import read_table
from ...errors import DataError, RecloomError
from ...io import whole_file
from ...progress import Progress
from .. import TextEncoder

BLOCK = 512
"""Texts encoded between two looks at the clock."""
SAVED_EVERY = 30.0
"""Seconds of work that an interruption may lose."""
HISTORY = ("data_hash", "split_hash", "first")
"""What texts that were written from training histories say of them."""


def read_texts(data: Path, of: str, texts: Path | None, columns: list[str] | None) -> pl.DataFrame:
    """Two columns, the id and `text`: a row for each item or user of the dataset, empty where there is no text.

    Then come those of `texts` that the dataset lacks, such as items to be added to a run.
    """
    from ...data.catalog import Catalog, joined_text

    catalog = Catalog.load(data)
    everyone = catalog.items if of == "items" else catalog.users
    key = everyone.columns[0]
    table = everyone if texts is None else _table(texts, key)
    kinds = {name: kind for name, kind in table.schema.items() if name != key}
    known = "title" if texts is None else "text"
    usual = [known] if known in kinds else [n for n, k in kinds.items() if k == pl.String]
    chosen = columns or usual
    absent = [name for name in chosen if name not in kinds]
    if absent or not chosen:
        raise DataError(
            f"{texts or data}: no text column {absent[0] if absent else ''!r}; the columns are {', '.join(kinds)}. "
            "Name some with --columns."
        )
    found = table.select(pl.col(key).cast(pl.String), joined_text(table, chosen).alias("text"))
    if found[key].n_unique() < len(found):
        raise DataError(
            f"{texts}: {key} {found.filter(pl.col(key).is_duplicated())[key][0]!r} stands there twice"
        )
    further = found.join(everyone, on=key, how="anti", maintain_order="left")
    return (
        pl.concat([everyone.select(key), further.select(key)])
        .join(found, on=key, how="left", maintain_order="left")
        .with_columns(pl.col("text").fill_null(""))
    )


def origin_of(texts: Path | None, columns: list[str] | None) -> dict[str, Any]:
    """What the vectors are made from: the file's name, its columns, and what it says of the histories it was shown."""
    made: dict[str, Any] = {"texts": texts.name if texts else None, "columns": columns}
    parquet = texts is not None and texts.suffix == ".parquet"
    for name, facts in (pq.read_metadata(texts).metadata or {}).items() if parquet else ():
        said = json.loads(facts) if name.startswith(b"recloom.") and facts.startswith(b"{") else {}
        if "split_hash" in said:
            made |= {key: said.get(key) for key in HISTORY}
    return made


def refuse_other_texts(target: Path, made: dict[str, Any], overwrite: bool) -> None:
    """Raise RecloomError where `target` holds vectors of other texts, which would be gone."""
    if overwrite or not target.is_file():
        return
    try:
        found = provenance_of(target)
    except (pa.ArrowInvalid, OSError):
        return  # `reusable` says what is wrong with it
    if found and any(found.get(name) != made.get(name) for name in HISTORY):
        raise RecloomError(
            f"{target} holds vectors of texts that were written from other training rows (data, split or `first`). "
            "Choose another --out, or replace it with --overwrite."
        )
    if found and any(found[name] != made[name] for name in ("texts", "columns")):
        raise RecloomError(
            f"{target} holds vectors of {found['texts'] or 'the dataset'}, columns {found['columns'] or 'by default'}; "
            f"asked for are those of {made['texts'] or 'the dataset'}, columns {made['columns'] or 'by default'}. "
            "Choose another --out, or replace it with --overwrite."
        )


def reusable_vectors(target: Path, key: str, spec: str, overwrite: bool) -> dict[str, list[float]]:
    """Vectors by the hash of their text, of an earlier or an interrupted run with the same encoder."""
    found: dict[str, list[float]] = {}
    for path in (target, _partial(target)):
        if not path.is_file():
            continue
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            if overwrite:
                continue
            raise RecloomError(
                f"{path} cannot be read as vectors ({error}). Choose another --out, or replace it with --overwrite."
            ) from error
        made_with = (table.schema.metadata or {}).get(ENCODER, b"").decode()
        if made_with != spec and overwrite:
            continue
        if made_with != spec or not {key, "text_hash", "vector"} <= set(table.column_names):
            raise RecloomError(
                f"{path} was made with {made_with or 'something else'}, asked for is {spec}. "
                "Choose another --out, or replace it with --overwrite."
            )
        pairs = zip(table["text_hash"].to_pylist(), table["vector"].to_pylist(), strict=True)
        found |= {hash_: vector for hash_, vector in pairs if hash_ and vector and np.isfinite(vector).all()}
    return found


def write_vectors(
    rows: pl.DataFrame,
    key: str,
    encoder: TextEncoder,
    spec: str,
    known: dict[str, Any],
    target: Path,
    made: dict[str, Any] | None = None,
) -> dict[str, int]:
    """Encode each text that is not known once, and write the file whole; counts of what was done."""
    hashes = [text_hash(text) if text else "" for text in rows["text"].to_list()]
    wanted = {key_: text for key_, text in zip(hashes, rows["text"].to_list(), strict=True) if key_}
    new = {key_: text for key_, text in wanted.items() if key_ not in known}
    saved = time.monotonic()
    for part in _encoded(new, encoder):
        known |= part
        if time.monotonic() - saved > SAVED_EVERY:
            _write(list(known), list(known), known, key, spec, _partial(target), made)
            saved = time.monotonic()
    named = [(name, hash_) for name, hash_ in zip(rows[key].to_list(), hashes, strict=True) if hash_]
    if not named:
        raise DataError("there is no text to encode; name other --columns")
    _write([name for name, _ in named], [hash_ for _, hash_ in named], known, key, spec, target, made)
    _partial(target).unlink(missing_ok=True)
    return {
        "rows": len(named),
        "dim": len(known[named[0][1]]),
        "encoded": len(new),
        "reused": len(wanted) - len(new),
        "empty": len(rows) - len(named),
    }


def text_hash(text: str) -> str:
    """16 hex digits by which a text is known."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _encoded(texts: dict[str, str], encoder: TextEncoder) -> Iterator[dict[str, Any]]:
    """Blocks of hash to vector, similar lengths together, with a progress bar."""
    order = sorted(texts, key=lambda hash_: len(texts[hash_]))
    with Progress("encoding", len(order)) as progress:
        for start in range(0, len(order), BLOCK):
            block = order[start : start + BLOCK]
            vectors = np.asarray(encoder.encode([texts[hash_] for hash_ in block]), np.float32)
            if not np.isfinite(vectors).all():
                raise RecloomError(f"{type(encoder).__name__} gave a vector with a number that is not finite")
            yield dict(zip(block, vectors, strict=True))
            progress.advance(len(block), 0)


def _write(
    ids: list[str],
    hashes: list[str],
    known: dict[str, Any],
    key: str,
    spec: str,
    path: Path,
    made: dict[str, Any] | None,
) -> None:
    matrix = np.asarray([known[hash_] for hash_ in hashes], np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    table = pa.table({key: pa.array(ids), "text_hash": pa.array(hashes), "vector": vectors})
    facts = {ENCODER: spec.encode()} | ({ORIGIN: json.dumps(made).encode()} if made else {})
    with whole_file(path) as partial:
        pq.write_table(table.replace_schema_metadata(facts), partial)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _table(path: Path, key: str) -> pl.DataFrame:
    table = read_table(path)
    if key not in table.columns:
        raise DataError(f"{path} must have the column {key}; found {', '.join(table.columns)}")
    return table
