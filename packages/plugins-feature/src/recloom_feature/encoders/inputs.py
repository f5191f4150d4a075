"""Shared by the text encoders: the check of a model folder, and batches of texts of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from recloom.errors import RecloomError

MODULES = "modules.json"
"""What sentence-transformers writes beside a model: its layers."""
DEPTHS = ("*", "*/*", "*/*/*")
"""Depths below a folder at which a model is looked for."""
SHOWN = 5


def check_model_folder(folder: Path) -> None:
    """Raise RecloomError where a folder that exists holds neither modules.json nor config.json."""
    if folder.is_dir() and not any((folder / name).is_file() for name in (MODULES, "config.json")):
        raise RecloomError(f"{folder} is not the folder of a text encoder. {expected(folder)}")


def expected(folder: Path) -> str:
    """An error text: what a model folder holds, what this one holds, and the nearest one with a modules.json."""
    found = sorted(path.name for path in folder.iterdir())
    more = [f"{len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
    near = chain([folder.parent], (path for depth in DEPTHS for path in sorted(folder.glob(depth))))
    model = next((path for path in near if (path / MODULES).is_file()), None)
    return (
        f"Expected {MODULES} and config.json, with the weights (model.safetensors) and the tokeniser "
        f"(tokenizer.json) beside them; found {', '.join([*found[:SHOWN], *more]) or 'nothing'}. "
        + (f"Give {model}, which holds a {MODULES}." if model else "Give the folder that holds these files.")
    )


AT_ONCE = 8192
"""Texts that are tokenised, and sorted by length, together; it bounds memory."""


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches, longest first, whose padded size (count x longest) is at most `budget`.

    A text longer than the budget is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda at: -lengths[at])
    start = 0
    while start < len(order):
        count = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count
