"""Next steps: the commands that read the output of a command, printed after `next:`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recloom.next_steps import split_words, then
from recloom.schemas import SplitSpec


def after_profiles(
    data: Path, files: Mapping[str, Path], users: bool, split: SplitSpec, split_path: Path | None
) -> str:
    """Turn profiles of items, and of users where there are any, into vectors, and learn beside them."""
    vectors = {name: file.with_name(f"{file.stem}-vectors.parquet") for name, file in files.items()}
    steps = [then("embed", data, "--texts", files["items"])]
    words = ["--data.vectors", vectors["items"]]
    if users:
        steps.append(then("embed", data, "--of", "users", "--texts", files["users"]))
        words += ["--data.user_vectors", vectors["users"]]
    fit = ("fit", "--model", "LightGCN", "--model.loss", "RLMRecCon", "--data", data)
    steps.append(then(*fit, *split_words(split, split_path), *words))
    return "\n".join(steps)


def after_refining(data: Path, folder: Path) -> str:
    """Turn refined texts into vectors."""
    where = () if folder == data else ("--folder", folder)
    return then("graph", "encode", data, *where)


def after_encoding(data: Path, vectors: Mapping[str, Path], split: SplitSpec) -> str:
    """Train GaCLLM on the split of the texts."""
    options = {"item": "--data.vectors", "user": "--data.user_vectors"}
    words = [word for key, file in vectors.items() for word in (options[key], file)]
    fit = ("fit", "--model", "GaCLLM", "--data", data, *split_words(split, None))
    return then(*fit, *words)
