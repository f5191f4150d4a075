"""The command to type next, quoted for a shell: what a command prints behind `next:`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .schemas import SplitSpec


def command_line(*words: object) -> str:
    """`recloom` and these words, as a shell takes them: a path with a blank is quoted."""
    return shlex.join(["recloom", *map(str, words)])


def then(*words: object) -> str:
    """The line that says which command comes next: `next: recloom WORDS`."""
    return f"next: {command_line(*words)}"


def split_words(split: SplitSpec, split_path: str | Path | None) -> list[str]:
    """The options with which `recloom fit` divides a dataset so."""
    if split_path is not None:
        return ["--data.split_path", str(split_path)]
    changed = split.model_dump(mode="json", exclude_defaults=True)
    return [word for name, value in changed.items() for word in (f"--data.split.{name}", str(value))]
