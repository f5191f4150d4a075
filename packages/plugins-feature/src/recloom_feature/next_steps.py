"""Next steps: the command that reads the output of a command, printed after `next:`."""

from __future__ import annotations

from pathlib import Path

from recloom.next_steps import split_words, then
from recloom.schemas import SplitSpec


def vectors_of(texts: Path) -> Path:
    """The default file of `recloom embed` for the vectors of a file of texts: beside it, named after it."""
    return texts.with_name(f"{texts.stem}-vectors.parquet")


def embed(data: Path, of: str, texts: Path) -> str:
    """Turn a file of texts into vectors."""
    whose = ("--of", "users") if of == "users" else ()
    return then("embed", data, *whose, "--texts", texts)


def fit_with_vectors(
    data: Path,
    vectors: Path,
    model: str = "SASRec",
    item_input: str = "id+vector",
    config: Path | None = None,
) -> str:
    """Train a model that reads vectors of items."""
    words = () if config is None else ("--config", config)
    return then(
        "fit", *words, "--model", model, "--model.recommender.item_input", item_input, "--data", data,
        "--data.vectors", vectors,
    )  # fmt: skip


def fit_with_pairs(data: Path, pairs: Path, split: SplitSpec, split_path: Path | None) -> str:
    """Train on simulated preferences, on the same split."""
    return then(
        "fit", "--model", "SASRec", "--data", data, *split_words(split, split_path), "--model.loss", "ColdStart",
        "--model.loss.pairs", pairs,
    )  # fmt: skip


def seralm_rounds(data: Path, texts: Path) -> str:
    """Choose among the texts of items, in a folder named after them."""
    folder = texts.with_name(f"{texts.stem}-rounds")
    return then("seralm", "rounds", data, "--texts", texts, "--out", folder)


def measure_reasons(data: Path, reasons: Path) -> str:
    """Measure how faithful reasons are to the records that they cite."""
    return then(
        "text-metrics", reasons, "--metrics", "distinct@2,faithfulness,faithful_texts", "--data", data,
        "--items", "item_id", "--cited", "cites",
    )  # fmt: skip
