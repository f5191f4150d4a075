"""Numbers as people write them: `4.5`, and `4,5` where a comma can only be the decimal mark."""

from __future__ import annotations

import polars as pl

GROUPED = r"^[+-]?\d{1,3}(,\d{3})+$"
"""`1,234`: one thousand two hundred and thirty-four, or a little more than one."""


def to_numbers(values: pl.Series) -> tuple[pl.Series, str | None]:
    """Float32, null where a text is no number, and what was assumed of the decimal mark, if anything.

    A comma counts as the decimal mark unless every number that has one could as well mean thousands.
    """
    if values.dtype != pl.String:
        return values.cast(pl.Float32, strict=False), None
    texts = values.str.strip_chars()
    commas = texts.filter(texts.str.contains(",", literal=True).fill_null(False))
    if not len(commas) or commas.str.contains(GROUPED).all():
        return texts.cast(pl.Float32, strict=False), None
    numbers = texts.str.replace(",", ".", literal=True).cast(pl.Float32, strict=False)
    if numbers.null_count() == texts.cast(pl.Float32, strict=False).null_count():
        return numbers, None
    return numbers, f"decimal commas, such as {commas[0]!r}"
