"""The split that a source brings: files or a column that say of each row whether it is train, valid or test."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ...errors import DataError
from ..readers.parts import PART_COLUMNS, PART_WORDS, WORDS


def part_column(names: Sequence[str]) -> str | None:
    """The first column that says the part of a row; None where none does."""
    plain = {name.strip().lower(): name for name in reversed(names)}
    return next((plain[name] for name in PART_COLUMNS if name in plain), None)


def source_parts(interactions: pl.DataFrame) -> pl.Series:
    """(N,) `train`, `valid`, `test` or `context` (history alone) of each row, as the source says.

    Raises DataError where nothing says it, for other words, and where train or test has no row.
    """
    name = part_column(interactions.columns)
    if name is None:
        raise DataError(
            "--keep-split: these data do not say which rows are train and test. Expected a folder of train.txt and "
            "test.txt, of train.csv, valid.csv and test.csv, of NAME.train.inter and its like, or a column called "
            f"{', '.join(PART_COLUMNS)}. Leave it out."
        )
    said = interactions[name].cast(pl.String)
    parts = (
        said.str.strip_chars()
        .str.to_lowercase()
        .replace_strict(PART_WORDS, default=None, return_dtype=pl.String)
    )
    if parts.null_count():
        other = said.filter(parts.is_null()).unique(maintain_order=True).to_list()[:3]
        known = ", ".join(PART_WORDS)
        raise DataError(f"--keep-split: column {name!r} holds {other}; expected one of {known}. Rename them.")
    absent = [part for part in ("train", "test") if not (parts == part).any()]
    if absent:
        raise DataError(f"--keep-split: column {name!r} leaves no row in {absent[0]}. Leave the option out.")
    return parts.alias("part")


def kept_note(parts: pl.Series) -> str:
    """How many rows each part has, and what it means where none is for validation."""
    names = [*WORDS, *(["context"] if (parts == "context").any() else [])]
    rows = ", ".join(f"{int((parts == part).sum()):,} {part}" for part in names)
    alone = "" if (parts == "valid").any() else ". Without validation a fit goes on to its limit of epochs"
    return f"the split of the source is kept: {rows}{alone}"
