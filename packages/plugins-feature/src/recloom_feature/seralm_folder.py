"""The work folder of `recloom seralm`: stage files that appear whole or not at all, and say what they are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recloom.errors import RecloomError

if TYPE_CHECKING:
    import polars as pl

METHOD = "SeRALM (reconstruction from the abstract; no official code or figures exist)"
"""Stands in every file."""
SETTINGS = "seralm.json"


@dataclass(frozen=True)
class Folder:
    """A folder whose finished files are not made again."""

    path: Path

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Begin in an empty folder, or go on in one of equal settings; RecloomError for any other."""
        file = self.path / SETTINGS
        if not file.is_file():
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise RecloomError(
                    f"{self.path} holds something else than rounds of SeRALM; choose another --out"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(file, settings)
            return
        before = read_json(file)
        after = json.loads(json.dumps(settings))
        changed = [name for name in after if before.get(name) != after[name]]
        if changed:
            told = "; ".join(f"{name} was {before.get(name)!r}, now {after[name]!r}" for name in changed)
            raise RecloomError(f"{self.path} was begun with other settings: {told}. Choose another --out.")

    def round(self, number: int) -> Folder:
        """The folder of a round, from 1."""
        inside = Folder(self.path / f"round-{number}")
        inside.path.mkdir(exist_ok=True)
        return inside

    def file(self, name: str) -> Path:
        return (self.path / name).absolute()

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small file, marked and whole."""
    from recloom.runfolder import write_text

    write_text(path, json.dumps({"method": METHOD, **content}, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise RecloomError(f"{path} cannot be read as JSON: {error}. Remove it, and run again.") from error
    return found


def write_table(path: Path, table: pl.DataFrame, facts: Mapping[str, str] | None = None) -> None:
    """Write a Parquet file, marked and whole; `facts` join its metadata."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        table.write_parquet(temporary, metadata={"recloom.method": METHOD} | dict(facts or {}))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
