"""What a folder of weights holds, in a few characters: the same on every machine, another after training."""

from __future__ import annotations

import hashlib
from pathlib import Path

KINDS = ("*.safetensors", "*.gguf", "*.json", "*.jinja", "*.txt", "*.model", "*.onnx")
WHOLE = 1 << 26
"""Files up to so many bytes are read in full; of larger ones, the size and PARTS parts, the ends included."""
PARTS = 64
PART = 1 << 16


def fingerprint(folder: Path) -> str:
    """16 hexadecimal digits of sha256 over names and contents of the files that make a model."""
    digest = hashlib.sha256()
    files = {path.name: path for kind in KINDS for path in folder.glob(kind) if path.is_file()}
    for name, path in sorted(files.items()):
        size = path.stat().st_size
        digest.update(f"{name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= WHOLE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for part in range(PARTS):
                file.seek((size - PART) * part // (PARTS - 1))
                digest.update(file.read(PART))
    return digest.hexdigest()[:16]


def contents(name: str) -> str:
    """A folder's own name and fingerprint; the name of anything else as it is."""
    folder = Path(name)
    return f"{folder.resolve().name} sha256:{fingerprint(folder)}" if folder.is_dir() else name
