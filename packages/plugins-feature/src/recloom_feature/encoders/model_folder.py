"""The folder of a text encoder: what it holds, and which folder was meant where one holds something else."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from recloom.errors import RecloomError

MODULES = "modules.json"
"""What sentence-transformers writes beside a model: its layers."""
DEEP = ("*", "*/*", "*/*/*")
"""How far below a folder a model is looked for."""
SHOWN = 5


def check_model_folder(folder: Path) -> None:
    """Raise RecloomError where a folder that exists holds neither modules.json nor config.json."""
    if folder.is_dir() and not any((folder / name).is_file() for name in (MODULES, "config.json")):
        raise RecloomError(f"{folder} is not the folder of a text encoder. {expected(folder)}")


def expected(folder: Path) -> str:
    """What a model folder holds, what this one does, and the nearest one that is a model by its modules.json."""
    found = sorted(path.name for path in folder.iterdir())
    more = [f"{len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
    near = chain([folder.parent], (path for depth in DEEP for path in sorted(folder.glob(depth))))
    model = next((path for path in near if (path / MODULES).is_file()), None)
    return (
        f"Expected {MODULES} and config.json, with the weights (model.safetensors) and the tokeniser "
        f"(tokenizer.json) beside them; found {', '.join([*found[:SHOWN], *more]) or 'nothing'}. "
        + (f"Give {model}, which holds a {MODULES}." if model else "Give the folder that holds these files.")
    )
