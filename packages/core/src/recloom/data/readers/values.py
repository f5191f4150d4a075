"""Checks of raw values: columns recognised by name, times to Unix seconds, numbers as people write them, valid rows.

All are Polars expressions over whole columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import polars as pl

from ...errors import DataError
from .numeric_times import WORDS, numbers_to_seconds

FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%a %b %d %H:%M:%S %z %Y",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %I:%M:%S %p",
    "%Y-%m-%d %I:%M %p",
    "%Y/%m/%d %H:%M:%S",
    "%Y-%m-%d",
    "%Y/%m/%d",
)
DAY_AND_MONTH = r"^\s*(?<one>\d{1,2})[./-](?<two>\d{1,2})[./-](?<year>\d{4})(?<rest>\D.*)?$"
"""Dates that begin with the day or with the month."""
ROLES = {
    "user_id": ("user_id", "userid", "user", "reviewerid", "reviewer_id", "customer_id", "customerid",
                "visitorid", "session_id", "sessionid", "uid", "u", "member_id", "author_id", "customer", "client_id",
                "client", "buyer_id", "buyer", "username", "user_name", "session"),
    "item_id": ("item_id", "itemid", "item", "movieid", "movie_id", "asin", "parent_asin", "product_id",
                "productid", "news_id", "article_id", "track_id", "book_id", "business_id", "job_id", "i",
                "product", "sku", "movie", "book", "artistid", "artist_id", "trackid", "bookid", "songid", "song_id",
                "videoid", "video_id", "gameid", "game_id", "newsid", "articleid", "content_id", "venue_id", "poi_id",
                "recipe_id", "listing_id", "isbn", "stockcode", "stock_code", "track_uri"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "ts", "datetime", "date", "created_at", "when",
                  "event_time", "event_timestamp", "eventdate", "event_date", "createdat", "date_time", "order_date",
                  "invoicedate", "invoice_date", "purchase_date", "review_date", "date_added"),
    "value": ("value", "rating", "overall", "score", "stars", "weight", "count", "r", "user_rating",
              "book_rating", "star_rating", "play_count"),
}  # fmt: skip
"""Names, in lower case, that a column of each role usually has; the first found is taken."""
MISSING = {"null", "\\n", "na", "n/a", "#n/a", "nan", "none", "nil", "<na>", "undefined", "-", "?"}
"""Words, in lower case, that programs write for no value."""
GROUPED = r"^[+-]?\d{1,3}(,\d{3})+$"
"""`1,234`: one thousand two hundred and thirty-four, or a little more than one."""
LISTED = r"^[\d.\s]*,(\s|[\d.\s]*,)[\d.,\s]*$"
"""Several numbers in one cell: `4,5,3` or `4, 5`."""
THOUSANDS = (
    (r"^[+-]?\d{1,3}(,\d{3})*,\d{3}\.\d+$", ",", "."),
    (r"^[+-]?\d{1,3}(\.\d{3})*\.\d{3},\d+$", ".", ","),
)
"""Numbers that have both marks, the mark between thousands, and that of decimals."""
TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "t": 1.0, "f": 0.0, "y": 1.0, "n": 0.0}
"""Words, in lower case, for yes and no."""
OF_DAY = r"^\s*\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*([AaPp][Mm])?\s*$"
"""Times of day."""
BARE = r"^\s*\d{4}[-/]\d{2}[-/]\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s*$"
ZONED = r"^\s*\d{4}[-/]\d{2}[-/]\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s?(Z|UTC|[+-]\d{2}:?\d{2}?)\s*$"
"""Times of a date without a zone, and with one."""
Check = tuple[pl.Expr, str]
NO_NUMBER = "value is empty or not a number"
NO_TIME = "timestamp is empty or not a time"
ACCEPTED = {
    NO_NUMBER: "Numbers may be written 4, 4.5, 1e3, and 4,5, within quotes where a comma separates (1,234 "
    "alone may mean thousands and is refused, and so are lists); --value-column none reads the rows without values.",
    NO_TIME: "Times may be Unix seconds (or ms, µs, ns), 2023-12-31, 2023-12-31 14:30:05 (with T, fraction or "
    "zone), 31.12.2023 or 31/12/2023 14:30 where numbers above 12 say which is the day, and any other form "
    "with --time-format, such as %d.%m.%y.",
}
"""Reason to what would have been accepted."""


def whole_ids(table: pl.DataFrame, name: str, notes: list[str]) -> pl.DataFrame:
    """The table with ids such as `101.0` as `101`, where all are whole numbers and some are written so; noted once."""
    ids = table[name]
    if not ids.str.contains(".", literal=True).any():
        return table
    ended = ids.str.contains(r"\d\.0*$")
    missing = ids.str.strip_chars().str.to_lowercase().is_in(list(MISSING))
    if not (ids.str.contains(r"^-?\d+(\.0*)?$") | missing).all():
        return table
    example = ids.filter(ended.fill_null(False))
    if not len(example):
        return table
    note = f"{name}: all are whole numbers, and those such as {example[0]} are read without .0"
    notes += [] if any(one.startswith(f"{name}: all are whole") for one in notes) else [note]
    return table.with_columns(ids.str.replace(r"\.0*$", ""))


def whole_keys(table: pl.DataFrame, name: str, notes: list[str]) -> pl.DataFrame:
    """As `whole_ids`, of a table with one row for each id: of rows whose ids become equal the first stays, noted."""
    table = whole_ids(table, name, notes)
    again = table.filter(~table[name].is_first_distinct())
    if again.height:
        notes.append(
            f"warning: {again.height:,} records have an id that another has, such as {again[name][0]}, once .0 is left "
            "off; the first of each is kept"
        )
        table = table.filter(table[name].is_first_distinct())
    return table


def untyped(name: str) -> str:
    """The name of a column without the type that RecBole writes behind it (`title:token_seq`)."""
    plain, _, kind = name.strip().rpartition(":")
    return plain if plain and kind in ("token", "token_seq", "float", "float_seq") else name.strip()


def plain_name(name: str) -> str:
    """The name of a column as it is compared: `User-ID` and `user_id:token` are `user_id`."""
    return untyped(name).lower().replace("-", "_").replace(" ", "_")


def guess_columns(names: list[str]) -> dict[str, str]:
    """Role to column, for the roles whose column has a usual name (RecBole's `user_id:token` too)."""
    plain = {plain_name(name): name for name in reversed(names)}
    found = {role: next((plain[n] for n in usual if n in plain), None) for role, usual in ROLES.items()}
    return {role: name for role, name in found.items() if name is not None}


def to_seconds(times: pl.Series, form: str | None = None) -> tuple[pl.Series, str]:
    """Unix seconds (Int64, null where a value cannot be read), and what the values were taken for.

    Texts without a zone are read as UTC. Fractions of a second are cut off. `form` is how texts are written,
    such as `%d.%m.%y`, or what numbers are (WORDS); without it, the usual forms are tried.

    Raises DataError where dates may have the day or the month first, and none of them says which.
    """
    if form in WORDS:
        return numbers_to_seconds(times.cast(pl.Float64, strict=False), form)
    if form is not None:
        return _with_form(times.cast(pl.String), form)
    if times.dtype.is_temporal():
        return times.cast(pl.Datetime("us")).dt.epoch("s"), "dates"
    if times.dtype == pl.String:
        sample = times.head(1000).drop_nulls()
        if sample.cast(pl.Float64, strict=False).null_count() * 2 > len(sample):
            return _from_text(times, sample)
        whole = times.cast(pl.Int64, strict=False)
        times = times.cast(pl.Float64, strict=False) if whole.null_count() > times.null_count() else whole
    return numbers_to_seconds(times)


def _from_text(times: pl.Series, sample: pl.Series) -> tuple[pl.Series, str]:
    """By the format that reads most of the sample."""
    if len(sample) and sample.str.contains(OF_DAY).all():
        raise DataError(
            f"times such as {sample[0]!r} are times of day, without the day. Name a column of dates in --time-column, "
            "or none to take the order of the rows."
        )
    if sample.str.contains(DAY_AND_MONTH).sum() * 2 > len(sample):
        return _day_and_month(times, sample[0])
    readable = {form: len(sample) - _parse(sample, form).null_count() for form in FORMATS}
    best = max(FORMATS, key=lambda form: readable[form])
    found = _parse(times, best)
    unread = times.filter(found.is_null() & times.is_not_null())
    zoned = "z" in best or best.endswith("UTC")
    other = unread.filter(unread.str.contains(BARE if zoned else ZONED))
    if len(other):
        first = times.filter(found.is_not_null()).first()
        raise DataError(
            f"of the times, some have a zone and others have none, such as {first!r} and {other[0]!r}, so how far they "
            "are apart is not known. Write the zone (Z for UTC) behind each, or leave it off each, or name another "
            "column in --time-column."
        )
    return found.dt.epoch("s"), f"text such as {sample[0]!r}, read as {best} in UTC"


def _with_form(times: pl.Series, form: str) -> tuple[pl.Series, str]:
    try:
        return _parse(times, form).dt.epoch("s"), f"text, read as {form} in UTC"
    except pl.exceptions.PolarsError as error:
        raise DataError(f"times cannot be read with --time-format {form!r}: {error}") from error


def _day_and_month(times: pl.Series, example: str) -> tuple[pl.Series, str]:
    """`02.07.2023 14:30` and the like; numbers above 12 anywhere in the column say which one is the day."""
    parts = times.str.extract_groups(DAY_AND_MONTH).struct.unnest()
    high = {name: parts.filter(pl.col(name).cast(pl.Int64) > 12).height > 0 for name in ("one", "two")}
    if high["one"] == high["two"]:
        found = (
            "some have the day first and some the month" if high["one"] else "no number above 12 says which"
        )
        raise DataError(
            f"dates such as {example!r} may have the day or the month first, and {found}. Write them as "
            "2023-12-31, or say how they are written, such as --time-format %d.%m.%Y (day first)."
        )
    day, month = ("one", "two") if high["one"] else ("two", "one")
    texts = parts.select(
        iso=pl.col("year") + "-" + pl.col(month).str.zfill(2) + "-" + pl.col(day).str.zfill(2)
        + (" " + pl.col("rest").str.strip_chars(" T,")).fill_null("")
    )["iso"]  # fmt: skip
    seconds, _ = _from_text(texts, texts.head(1000).drop_nulls())
    return seconds, f"text such as {example!r}, the {'day' if day == 'one' else 'month'} first, in UTC"


def _parse(times: pl.Series, form: str) -> pl.Series:
    parsed = times.str.strip_chars().str.to_datetime(form, strict=False, time_unit="us")
    return parsed.dt.replace_time_zone(None) if parsed.dtype.time_zone else parsed  # type: ignore[attr-defined]


def to_numbers(values: pl.Series) -> tuple[pl.Series, str | None]:
    """Float32, null where a text is no number, and what was assumed of words and of the decimal mark, if anything.

    Words are 1 or 0 where a column holds nothing but yes and no. A comma counts as the decimal mark unless every number
    that has one could as well mean thousands; `1,234.50` and `1.234,50` say by themselves which mark is which.
    """
    if values.dtype != pl.String:
        return values.cast(pl.Float32, strict=False), None
    texts = values.str.strip_chars()
    words = texts.drop_nulls().unique(maintain_order=True)
    if 0 < len(words) <= len(TRUTH) and words.str.to_lowercase().is_in(list(TRUTH)).all():
        numbers = texts.str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Float32)
        return numbers, ", ".join(f"{word} as {TRUTH[word.lower()]:g}" for word in words)
    for both, mark, point in THOUSANDS:
        sure = texts.filter(texts.str.contains(both).fill_null(False))
        grouped = texts.filter(texts.str.contains(mark, literal=True).fill_null(False))
        whole = both.rpartition(re.escape(point))[0]
        if len(sure) and grouped.str.contains(rf"{whole}({re.escape(point)}\d+)?$").all():
            plain = texts.str.replace_all(mark, "", literal=True).str.replace(point, ".", literal=True)
            return plain.cast(pl.Float32, strict=False), f"such as {sure[0]!r}, {mark!r} between thousands"
    commas = texts.filter(texts.str.contains(",", literal=True).fill_null(False))
    if not len(commas) or commas.str.contains(GROUPED).all() or commas.str.contains(LISTED).any():
        return texts.cast(pl.Float32, strict=False), None
    numbers = texts.str.replace(",", ".", literal=True).cast(pl.Float32, strict=False)
    if numbers.null_count() == texts.cast(pl.Float32, strict=False).null_count():
        return numbers, None
    return numbers, f"decimal commas, such as {commas[0]!r}"


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
