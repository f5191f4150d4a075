"""`recloom encoder export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from recloom.command import command
from recloom.errors import RecloomError

MOST = 1000
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
    return lines[:: max(1, -(-len(lines) // MOST))]  # from all parts of the file
