"""Times written as numbers: Unix seconds and parts of them, dates such as 20231231, and days of a spreadsheet."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import polars as pl

from ...errors import DataError

OLDEST = 788_918_400
"""1995-01-01 in Unix seconds: older times in logs of interactions are rather no times."""
DAY = 86_400
UNITS = {"nanoseconds": 10**9, "microseconds": 10**6, "milliseconds": 10**3, "seconds": 1}
"""Name to how many make a second."""
TYPICAL = {"nanoseconds": 1e17, "microseconds": 1e14, "milliseconds": 1e11, "seconds": 0}
"""The size from which on numbers are in a unit: 1e11 seconds would be the year 5138."""
DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Number of digits to how a date is written in them."""
YEARS = (1900, 2100)
EXCEL_ZERO = 25_569
"""1970-01-01 as spreadsheets count days, from 1899-12-30 on."""
WORDS = (*UNITS, "days", "excel")
"""What `--time-format` takes for numbers; `days` since 1970, `excel` as spreadsheets count them."""
SAMPLE = 10_000


def plausible(seconds: pl.Series) -> pl.Series:
    """Which Unix seconds lie from 1995 to a year from now."""
    return seconds.is_between(OLDEST, int(time.time()) + 366 * DAY)


def numbers_to_seconds(times: pl.Series, word: str | None = None) -> tuple[pl.Series, str]:
    """Unix seconds (Int64), and what the numbers were taken for: `word` (one of WORDS), else as they look.

    Numbers in several units are each read in theirs. Raises DataError for numbers that may be days of a spreadsheet.
    """
    if times.dtype.is_float():
        times = times.set(~times.is_finite(), None)
    if word is not None:
        return _in_unit(times, word), word
    sample = times.head(SAMPLE).drop_nulls()
    if not len(sample):
        return _whole(times), "seconds"
    for digits, form in DATES.items():
        if _dates(sample, digits, form).null_count() * 10 < len(sample):
            seconds = _dates(times, digits, form).dt.epoch("s")
            return seconds, f"dates such as {int(sample[0])}, read as {form} in UTC"
    _refuse_spreadsheet_days(sample)
    return _by_size(times, sample)


def _whole(times: pl.Series) -> pl.Series:
    return times.cast(pl.Int64, strict=False)


def _in_unit(times: pl.Series, word: str) -> pl.Series:
    if word in UNITS:
        return _whole(times) // UNITS[word]
    days = times.cast(pl.Float64) - (EXCEL_ZERO if word == "excel" else 0)
    return _whole((days * DAY).round())


def _dates(times: pl.Series, digits: int, form: str) -> pl.Series:
    """Datetimes of numbers of so many digits; null where they are no date of these centuries."""
    texts = _whole(times).cast(pl.String)
    texts = texts.set(texts.str.len_bytes() != digits, None)
    if texts.null_count() == len(texts):
        return pl.Series([None] * len(texts), dtype=pl.Datetime("us"))
    parsed = texts.str.to_datetime(form, strict=False, time_unit="us")
    return parsed.set(~parsed.dt.year().is_between(*YEARS).fill_null(False), None)


def _refuse_spreadsheet_days(sample: pl.Series) -> None:
    seconds = (sample.cast(pl.Float64) - EXCEL_ZERO) * DAY
    if plausible(seconds).sum() < 0.99 * len(sample):
        return
    low, high = (datetime.fromtimestamp(float(day), UTC).date() for day in (seconds.min(), seconds.max()))  # type: ignore[arg-type]
    raise DataError(
        f"times such as {sample[0]:g} may be days as spreadsheets count them ({low} to {high}), or numbers in an "
        "order. Say which: --time-format excel or --time-format seconds (--time-column none: the order of the rows)."
    )


def _by_size(times: pl.Series, sample: pl.Series) -> tuple[pl.Series, str]:
    """By the unit of most numbers; those that are no time in it and are one in another unit, by that."""
    typical = float(sample.abs().median())  # type: ignore[arg-type]
    unit = next(name for name, size in TYPICAL.items() if typical > size or not size)
    seconds = _in_unit(times, unit)
    odd = ~plausible(seconds)
    if not odd.any() or not plausible(pl.Series([typical / UNITS[unit]])).any():
        return seconds, unit
    taken_for = unit
    for other in UNITS:
        meant = _in_unit(times, other)
        here = (odd & plausible(meant)).fill_null(False)
        if here.any():
            seconds = meant.zip_with(here, seconds)
            taken_for += f", and {here.sum():,} of {len(times):,} in {other}"
    return seconds, taken_for
