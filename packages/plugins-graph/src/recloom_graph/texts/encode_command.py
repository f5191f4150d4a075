"""`recloom graph encode`: vectors of the texts of all layers, as GaCLLM reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recloom.command import command
from recloom.llm import TextEncoder

if TYPE_CHECKING:
    import polars as pl


@command("graph encode")
def encode(
    data: Path,
    *,
    encoder: TextEncoder | None = None,
    folder: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Turn the texts of `recloom graph refine` into vectors.

    The vector of a user or an item is those of its layers one after the other. Each distinct text is encoded once and
    kept in `refined-encoded.parquet`: an interrupted run goes on, and after refining anew only new texts are encoded.

    Args:
        data: the prepared dataset.
        encoder: what turns a text into a vector, such as `SentenceTransformers`; by default hashed n-grams.
        folder: where `refined-items.parquet` and `refined-users.parquet` lie, by default the dataset; the vectors go
            beside them, to `refined-items-vectors.parquet` and `refined-users-vectors.parquet`.
        overwrite: replace vectors of another encoder.
    """
    import json

    from recloom.llm import HashingNgrams, reusable_vectors, write_vectors
    from recloom.schemas import SplitSpec

    from ..next_steps import after_encoding
    from .layer_vectors import distinct, read_layers, write_layers

    chosen, place = encoder or HashingNgrams(), folder or data
    refined = {
        key: read_layers(place / f"refined-{key}s.parquet", f"{key}_id", data) for key in ("item", "user")
    }
    spec = json.dumps(chosen.identity, sort_keys=True)
    target = place / "refined-encoded.parquet"
    known = reusable_vectors(target, "text", spec, overwrite)
    texts = distinct([layers for layers, _ in refined.values()])
    counts = write_vectors(texts, "text", chosen, spec, known, target)
    print(f"{counts['encoded']:,} texts encoded, {counts['reused']:,} known before")
    written: dict[str, Path] = {}
    for key, (layers, made) in refined.items():
        out = place / f"refined-{key}s-vectors.parquet"
        rows = write_layers(layers, target, chosen.identity, made, out)
        if rows:
            written[key] = out
            print(
                f"wrote {out}: {rows:,} of {len(layers):,} {key}s, {_layers(layers)} of {counts['dim']} numbers each"
            )
        else:
            out.unlink(missing_ok=True)
            print(f"no {key} has a text in any layer, so there are no vectors of {key}s")
    split = SplitSpec.model_validate(refined["item"][1]["split"])
    print(after_encoding(data, written, split))


def _layers(table: pl.DataFrame) -> str:
    count: Any = table.width - 1
    return f"{count} layers" if count > 1 else "1 layer"
