"""`recloom embed`: texts of items or users to vectors. `recloom encoder export`: a text encoder as an ONNX folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from recloom.command import command
from recloom.errors import RecloomError
from recloom.llm import TextEncoder


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

    Give those of items to `recloom fit --model SASRec --model.recommender.item_input id+vector` with
    `--data.vectors OUT`, those of users to `--model KAR` with `--data.user_vectors OUT`.

    Args:
        data: the prepared dataset.
        encoder: what turns a text into a vector, such as `SentenceTransformers`; by default hashed n-grams.
        of: whose texts.
        texts: Parquet, CSV, TSV or JSON lines file with `item_id` (or `user_id`) and text columns, such as profiles
            or new items; by default the dataset's own table.
        columns: text columns, apart by blanks, joined in this order; by default `title`, of `texts` its column `text`
            or, where it has none, every text column.
        out: Parquet file to write, by default beside the texts and named after them: `TEXTS-vectors.parquet`, of the
            dataset's own texts `items-vectors.parquet` (or `users-vectors.parquet`) in the dataset.
        overwrite: replace a file that was made with another encoder or from other texts.
    """
    import json

    from recloom.io import writable
    from recloom.llm import (
        HashingNgrams,
        origin_of,
        read_texts,
        refuse_other_texts,
        reusable_vectors,
        write_vectors,
    )

    from ..next_steps import fit_with_vectors, vectors_of

    chosen = encoder or HashingNgrams()
    key = "item_id" if of == "items" else "user_id"
    target = out or vectors_of(texts or data / f"{of}.parquet")
    writable(target)
    rows = read_texts(data, of, texts, columns)
    spec = json.dumps(chosen.identity, sort_keys=True)
    made = origin_of(texts, columns)
    refuse_other_texts(target, made, overwrite)
    known = reusable_vectors(target, key, spec, overwrite)
    written = write_vectors(rows, key, chosen, spec, known, target, made)
    print(
        f"wrote {target}: {written['rows']:,} of {len(rows):,} {of}, {written['dim']} numbers each\n"
        f"{written['encoded']:,} texts encoded, {written['reused']:,} known before, "
        f"{written['empty']:,} {of} without text"
    )
    print(fit_with_vectors(data, target) if of == "items" else _for_users(target, made))


def _for_users(vectors: Path, made: dict[str, Any]) -> str:
    """A hint for vectors of users: which model reads them, and with which options."""
    first = made.get("first")
    if "split_hash" in made and first is None:
        return (
            "KAR refuses it: its texts show whole training histories, and so the labels.\n"
            f"Others take it, such as GaCLLM, or LightGCN with --model.loss RLMRecCon:\n  --data.user_vectors {vectors}"
        )
    known = f", on the split of its texts:\n  --data.known_first {first}" if first else ":\n "
    return f"KAR reads it beside vectors of items{known} --data.user_vectors {vectors}"


SAMPLED_LINES = 1000
"""Texts of a file that the cosine is measured with."""


@command("encoder export")
def export(
    model: Path,
    *,
    out: Path,
    weights: Literal["float32", "int8"] = "float32",
    texts: Path | None = None,
) -> None:
    """Write a text encoder as an ONNX folder, which needs no torch.

    Use it with `--encoder OnnxTextEncoder --encoder.folder DIR`.

    Args:
        model: folder of a sentence-transformers or BERT-like model.
        out: the folder to write.
        weights: `int8` is a quarter of the size and about twice as fast; how near its vectors are is measured.
        texts: file with a text on each line, of the kind that will be encoded, to measure that with.
    """
    from .export import SAMPLE, export_encoder

    card = export_encoder(model, out, weights, SAMPLE if texts is None else _lines(texts))
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    print(f"wrote {out}: {card.source}, {card.dim} dimensions, {card.weights}, {size:.0f} MB")
    if card.cosine is not None:
        print(
            f"cosine to the model's own vectors over {card.cosine.texts} texts: "
            f"mean {card.cosine.mean:.4f}, lowest {card.cosine.min:.4f}"
        )


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise RecloomError(f"{path} does not exist; expected a file with a text on each line")
    lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    return lines[:: max(1, -(-len(lines) // SAMPLED_LINES))]  # from all parts of the file
