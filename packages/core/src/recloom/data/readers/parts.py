"""Parts of a split that the names of files say: `train.csv`, `ratings_valid.tsv`, `ml.test.inter`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

WORDS = {
    "train": ("train", "training", "tr"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing", "te"),
}
"""Words, in lower case, for each part of a split."""
PART = {word: part for part, words in WORDS.items() for word in words}
PART_WORDS = PART | {"context": "context", "history": "context"}
"""Words, in lower case, that a column has for parts; rows of `context` are history of others and nothing else."""
PART_COLUMNS = ("part", "split", "subset")
"""Names, in lower case, of columns that say it; readers of several files give `part`."""
SHORT = 3
"""Letters that a word in the name of a file has at least, to say a part."""
SPLIT_ANEW = "this split of the source is kept with --keep-split, else the dataset is split anew"
"""What is said unless the split is kept."""


def part_of(path: Path) -> tuple[str, str] | None:
    """The part that the name of a file says, and the name without that word; None where it says none, or several."""
    words = re.split(r"([._\-\s]+)", path.name.lower())
    said = [place for place, word in enumerate(words) if len(word) >= SHORT and word in PART]
    if len(said) != 1:
        return None
    return PART[words[said[0]]], "".join([*words[: said[0]], "*", *words[said[0] + 1 :]])


def part_files(files: Sequence[Path]) -> list[list[Path]]:
    """Files that are the parts of one set: their names differ in the word for the part alone; train first.

    A set has two parts at least, and one file for each.
    """
    sets: dict[str, dict[str, list[Path]]] = {}
    for file in files:
        if (found := part_of(file)) is not None:
            part, rest = found
            sets.setdefault(rest, {}).setdefault(part, []).append(file)
    return [
        [parts[part][0] for part in WORDS if part in parts]
        for parts in sets.values()
        if len(parts) > 1 and all(len(same) == 1 for same in parts.values())
    ]


def joined_notes(files: Sequence[Path]) -> list[str]:
    """That files of several parts became one table, and how their split is kept."""
    names = " and ".join(file.name for file in files)
    return [f"{names} are joined; the column `part` says where a row comes from", SPLIT_ANEW]
