"""What makes a row of interactions valid, as Polars expressions over whole columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

Check = tuple[pl.Expr, str]
NO_NUMBER = "value is empty or not a number"
NO_TIME = "timestamp is empty or not a time"
ACCEPTED = {
    NO_NUMBER: "Numbers may be written 4, 4.5, 1e3, and 4,5 where the separator is not a comma (1,234 alone "
    "may mean thousands and is refused).",
    NO_TIME: "Times may be Unix seconds (or ms, µs, ns), 2023-12-31, 2023-12-31 14:30:05 (with T, fraction or "
    "zone), 31.12.2023 or 31/12/2023 14:30 where numbers above 12 say which is the day, and any other form "
    "with --time-format, such as %d.%m.%y.",
}
"""Reason to what would have been accepted."""


def row_checks(
    schema: Mapping[str, pl.DataType], ids: Sequence[str], *, lossy: bool = False, quoted: bool = False
) -> list[Check]:
    """Expressions that hold for invalid rows, each with its reason, for a frame of this schema.

    `ids` must not be empty; where they exist, `value` must be finite and `timestamp` not negative.

    Args:
        lossy: bytes that are no UTF-8 stand as � in the text.
        quoted: fields may be quoted, so a line break in an id comes from a quote that is not closed.
    """
    checks = [(pl.col(name).is_null() | (pl.col(name) == ""), f"{name} is empty") for name in ids]
    if lossy:
        checks += [(pl.col(n).str.contains("\ufffd", literal=True), f"{n} is not valid UTF-8") for n in ids]
    if quoted:
        reason = "holds a line break: a quote that is not closed?"
        checks += [(pl.col(n).str.contains("\n", literal=True), f"{n} {reason}") for n in ids]
    if "value" in schema:
        wrong = pl.col("value").is_nan() | pl.col("value").is_infinite()
        checks += [
            (pl.col("value").is_null(), NO_NUMBER),
            (wrong, "value is NaN or infinite"),
        ]
    if "timestamp" in schema:
        checks += [
            (pl.col("timestamp").is_null(), NO_TIME),
            (pl.col("timestamp") < 0, "timestamp is negative"),
        ]
    return checks


def part_rows(frame: pl.DataFrame, checks: Sequence[Check]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows for which no check holds; and the others, with the `reason` of the first that does."""
    bad = frame.select(pl.any_horizontal([check.fill_null(False) for check, _ in checks]).alias("bad"))["bad"]
    if not bad.any():
        return frame, frame.clear().with_columns(pl.lit("").alias("reason"))
    columns = [column for column in frame.columns if column not in ("line", "file")]
    empty = pl.all_horizontal(pl.col(columns).is_null())
    reasons = [pl.when(empty).then(pl.lit("empty line"))]
    reasons += [pl.when(check).then(pl.lit(text)) for check, text in checks]
    return frame.filter(~bad), frame.filter(bad).with_columns(pl.coalesce(reasons).alias("reason"))
