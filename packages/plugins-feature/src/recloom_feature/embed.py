"""`recloom embed`: the command; `text_vectors.py` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from recloom.command import command
from recloom.errors import RecloomError
from recloom.language import TextEncoder


@command("embed")
def embed(
    data: Path,
    *,
    encoder: TextEncoder | None = None,
    of: Literal["items", "users"] = "items",
    texts: Path | None = None,
    columns: list[str] | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Turn the texts of items or users into vectors.

    Use them with `recloom fit --model SASRec --model.recommender.item_input id+vector --data.vectors FILE`.

    Args:
        data: the prepared dataset.
        encoder: what turns a text into a vector, such as `SentenceTransformers`; by default hashed n-grams.
        of: whose texts.
        texts: Parquet file with `item_id` (or `user_id`) and text columns, such as profiles; by default the
            dataset's own table.
        columns: text columns, joined in this order; by default `title`, of `texts` its column `text` or, where it
            has none, every text column.
        out: Parquet file to write; by default `vectors.parquet` (or `user-vectors.parquet`) in the dataset.
        overwrite: replace a file that was made with another encoder or from other texts.
    """
    import json

    from recloom.language.hashing import HashingNgrams

    from .text_vectors import origin_of, read_texts, refuse_other_texts, reusable, write_vectors

    chosen = encoder or HashingNgrams()
    key = "item_id" if of == "items" else "user_id"
    target = out or data / ("vectors.parquet" if of == "items" else "user-vectors.parquet")
    if not target.parent.is_dir():
        raise RecloomError(f"{target.parent} is not a folder; make it, or choose another --out")
    rows = read_texts(data, of, texts, columns)
    spec = json.dumps(chosen.identity, sort_keys=True)
    made = origin_of(texts, columns)
    refuse_other_texts(target, made, overwrite)
    known = reusable(target, key, spec, overwrite)
    written = write_vectors(rows, key, chosen, spec, known, target, made)
    print(
        f"wrote {target}: {written['rows']:,} of {len(rows):,} {of} with text, {written['dim']} numbers each "
        f"({written['encoded']:,} texts encoded, {written['reused']:,} known before, {written['empty']:,} without text)"
    )
