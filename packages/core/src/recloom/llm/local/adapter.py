"""LoRA adapters loaded onto a model and checked, and fingerprints of folders of weights.

An adapter that does not reach the model, or changes nothing, is an error. A fingerprint is the same on every machine
and another one after training.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...errors import RecloomError
from ...io import fingerprint_files

SECOND = re.compile(r"\.lora_(B|embedding_A)\b")
"""The matrices of an adapter that are zero before training."""


def adapted(model: Any, folder: Path, unchanged: bool) -> Any:
    """The model with the adapter of a folder that peft wrote.

    Raises RecloomError where the folder holds none, where a trained matrix does not reach the model, or where
    none is trained and that is not allowed by `unchanged`.
    """
    file = folder / "adapter_model.safetensors"
    if not file.is_file() or not (folder / "adapter_config.json").is_file():
        raise RecloomError(f"{folder} is no LoRA adapter: adapter_config.json and {file.name} belong there")
    peft = _library()
    wanted = _trained_in(file)
    try:
        made = peft.PeftModel.from_pretrained(model, str(folder))
    except (ValueError, RuntimeError, KeyError) as error:
        raise RecloomError(f"the adapter {folder} does not fit the model: {error}") from error
    arrived = sum(bool(values.any()) for name, values in made.named_parameters() if SECOND.search(name))
    if arrived != wanted:
        raise RecloomError(
            f"{folder} holds {wanted} trained matrices, of which {arrived} reached the model: "
            "it was made for another one"
        )
    if not wanted and not unchanged:
        raise RecloomError(
            f"the adapter {folder} changes nothing: all its B matrices are zero, as before training. "
            "Give the trained folder, or allow it with unchanged_adapter."
        )
    return made


def _trained_in(file: Path) -> int:
    """How many matrices of a stored adapter differ from what they begin as."""
    from safetensors import safe_open

    with safe_open(file, "pt") as stored:
        names = [name for name in stored.keys() if SECOND.search(name)]  # noqa: SIM118 - no mapping
        return sum(bool(stored.get_tensor(name).any()) for name in names)


def _library() -> Any:
    try:
        import peft
    except ImportError as error:
        raise RecloomError(
            "an adapter needs the peft library: pip install 'recloom[transformers]'"
        ) from error
    return peft


KINDS = ("*.safetensors", "*.gguf", "*.json", "*.jinja", "*.txt", "*.model", "*.onnx")


def fingerprint(folder: Path) -> str:
    """16 hexadecimal digits of sha256 over names and contents of the files that make a model."""
    return fingerprint_files({path for kind in KINDS for path in folder.glob(kind) if path.is_file()})


def folder_contents(name: str) -> str:
    """A folder's own name and fingerprint; the name of anything else as it is."""
    folder = Path(name)
    return f"{folder.resolve().name} sha256:{fingerprint(folder)}" if folder.is_dir() else name
