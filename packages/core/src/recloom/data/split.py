"""Which part each interaction belongs to: decided by a `SplitSpec` and the data alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import ValidationError

from ..errors import DataError
from ..io import whole_folder
from ..schemas import PARTS, DatasetCard, Record, SplitSpec
from .card import Ties, read_card
from .columns import Columns, Ints, load_columns
from .prepare.ties import user_order

TRAIN, VALID, TEST, CONTEXT = range(4)
UNUSED = -1
PART = pl.Enum(PARTS)
OWN = Path("splits", "source")
"""Where a dataset keeps the split of its source."""
PartCodes = np.ndarray[Any, np.dtype[np.int8]]


class SplitRecord(Record):
    """`split.json`: how a split was made, and what it gave."""

    format: Literal["recloom-split-1"] = "recloom-split-1"
    spec: SplitSpec
    dataset: str
    data_hash: str
    parts_digest: str
    """Of the part of every row; equal digests are equal splits."""
    counts: dict[str, int]
    """Rows per part, `unused` rows, `short_users` (too few rows to hold any out) and `cold_items`."""
    cold_items: list[str]
    """Items of test that do not occur in train or context."""


def assign(
    interactions: pl.DataFrame,
    spec: SplitSpec,
    time: Literal["seconds", "order"] = "seconds",
    ties: Ties = "auto",
) -> pl.Series:
    """The part of each row: `train`, `valid`, `test`, `context` (history of a held-out user), null if unused.

    * `last`: each user's last row is test and the one before it valid; users with fewer than 3 rows
      are train altogether.
    * `time`: the newest `test` share of all rows is test, the `valid` share before it valid; or by the dates
      `valid_from` and `test_from`. Rows of equal time are never divided: those at a cut go to the later part.
    * `random`: a share of each user's rows, rounded, at least one row stays in train.
    * `users`: a share of the users is held out; the last row of each is the part, the rows before it
      are context. Users with one row are never held out.

    The k-core filter comes first: rows of users with fewer than `min_user` and of items with fewer than
    `min_item` rows are dropped until none is left. Rows may come in any order.

    Args:
        interactions: `user_id`, `item_id`, `timestamp`.
        time: `order` where timestamps are positions only, which `time` refuses.
        ties: what orders a user's rows of equal time, as for `recloom data prepare`; `file` for the interactions of a
            prepared dataset, whose order is final.
    """
    order, users, items, times, _ = user_order(interactions, ties)
    counts = np.bincount(users) if len(users) else np.zeros(0, np.int64)
    codes = np.empty(len(users), np.int8)
    codes[order] = split_rows(times, counts, spec, time, items)
    return _named(codes)


def split_rows(
    times: Ints,
    counts: Ints,
    spec: SplitSpec,
    time: Literal["seconds", "order"] = "seconds",
    items: Ints | None = None,
) -> PartCodes:
    """(N,) int8 part of each row, as `assign` says: a place in PARTS, -1 where unused.

    Args:
        times: (N,) of rows that are grouped by user and, within each, sorted by time.
        counts: (U,) how many rows each user has, in the order of the rows.
        time: `order` where times are positions only.
        items: (N,) small integers, one for each item; needed where the k-core filter is asked for.
    """
    if spec.min_user <= 1 and spec.min_item <= 1:
        return _parts(times, counts, spec, time)
    assert items is not None
    users = np.repeat(np.arange(len(counts)), counts)
    kept = k_core(users, items, spec.min_user, spec.min_item)
    codes = np.full(len(times), UNUSED, np.int8)
    codes[kept] = _parts(times[kept], np.bincount(users[kept], minlength=len(counts)), spec, time)
    return codes


def _named(codes: PartCodes) -> pl.Series:
    names = pl.Series([None, *PARTS], dtype=PART)
    return names.gather(codes.astype(np.int64) + 1).alias("part")


def _parts(times: Ints, counts: Ints, spec: SplitSpec, time: str) -> PartCodes:
    """Codes of rows that are grouped by user, sorted by time within each; none of them is unused."""
    if spec.strategy == "source":
        raise DataError(
            "the split strategy `source` needs the split of whoever published the data, and this dataset was prepared "
            "without it. Prepare it with --keep-split, or use --strategy last, time, random or users."
        )
    if spec.strategy == "time":
        return _by_time(times, spec, time)
    stops = np.cumsum(counts)
    if spec.strategy == "last":
        codes = np.full(len(times), TRAIN, np.int8)
        last = stops[counts >= 3] - 1
        codes[last], codes[last - 1] = TEST, VALID
        return codes
    if spec.valid + spec.test >= 1:
        raise _shares(spec)
    random = np.random.default_rng(spec.seed)
    if spec.strategy == "random":
        return _at_random(counts, spec, random)
    return _by_user(counts, stops, spec, random)


def _by_time(times: Ints, spec: SplitSpec, time: str) -> PartCodes:
    if time == "order":
        raise DataError(
            "the split strategy `time` needs real times, and these data know only each user's order "
            "(dataset.json: time is 'order'). Use --strategy last, random or users."
        )
    if spec.valid + spec.test >= 1:
        raise _shares(spec)
    total = len(times)
    from_valid, from_test = spec.moment("valid"), spec.moment("test")
    first_test = total - round(total * spec.test) if from_test is None else int((times < from_test).sum())
    from_test = _cut(times, first_test) if from_test is None else from_test
    from_valid = _cut(times, first_test - round(total * spec.valid)) if from_valid is None else from_valid
    codes = np.full(total, TRAIN, np.int8)
    for moment, part in ((from_valid, VALID), (from_test, TEST)):
        if moment is not None:
            codes[times >= moment] = part
    _refuse_empty(times, codes, spec)
    return codes


def _cut(times: Ints, first: int) -> int | None:
    """The time of the row that is `first` in order of time, which begins a part; None behind the last."""
    return int(np.partition(times, first)[first]) if 0 <= first < len(times) else None


def _refuse_empty(times: Ints, codes: PartCodes, spec: SplitSpec) -> None:
    """Raise DataError where a date that was given leaves a part without a row."""
    for name, code in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        if (spec.valid_from or spec.test_from) and len(times) and not (codes == code).any():
            first, last = pl.from_epoch(pl.Series([times.min(), times.max()]), time_unit="s").dt.date()
            said = " and ".join(
                f"{flag} {text}"
                for flag, text in (("valid_from", spec.valid_from), ("test_from", spec.test_from))
                if text
            )
            raise DataError(
                f"the split by {said} leaves no row in {name}: times run from {first} to {last}. Choose dates between."
            )


def _shares(spec: SplitSpec) -> DataError:
    return DataError(
        f"valid ({spec.valid:g}) and test ({spec.test:g}) together leave nothing to train on. "
        "Choose shares that sum to less than 1."
    )


def _at_random(counts: Ints, spec: SplitSpec, random: np.random.Generator) -> PartCodes:
    users = np.repeat(np.arange(len(counts)), counts)
    shuffled = np.lexsort((random.random(len(users)), users))
    test = np.minimum(np.rint(counts * spec.test), counts - 1)
    valid = np.minimum(np.rint(counts * spec.valid), counts - 1 - test)
    place = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)  # of the shuffled rows
    test, valid = test[users], valid[users]  # of a user's rows, so of the shuffled ones too
    codes = np.empty(len(users), np.int8)
    codes[shuffled] = np.where(place < test, TEST, np.where(place < test + valid, VALID, TRAIN))
    return codes


def _by_user(counts: Ints, stops: Ints, spec: SplitSpec, random: np.random.Generator) -> PartCodes:
    present = np.flatnonzero(counts)
    eligible = random.permutation(present[counts[present] >= 2])
    num_test, num_valid = (round(len(present) * share) for share in (spec.test, spec.valid))
    whole, last = np.full((2, len(counts)), TRAIN, np.int8)
    last[eligible[:num_test]] = TEST
    last[eligible[num_test : num_test + num_valid]] = VALID
    whole[last != TRAIN] = CONTEXT
    codes = np.repeat(whole, counts)
    codes[stops[present] - 1] = last[present]
    return codes


def k_core(users: Ints, items: Ints, min_user: int, min_item: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(N,) bool: the rows of the largest subset in which every user and item has enough rows."""
    kept = np.ones(len(users), bool)
    while kept.any():
        enough = (np.bincount(users[kept], minlength=int(users.max()) + 1) >= min_user)[users]
        enough &= (np.bincount(items[kept], minlength=int(items.max()) + 1) >= min_item)[items]
        if enough[kept].all():
            break
        kept &= enough
    return kept


def cold_items(interactions: pl.DataFrame, part: pl.Series, held_out: str = "test") -> pl.Series:
    """Ids of items that occur in a held-out part and nowhere in train or context, as they first appear."""
    known = interactions.filter(part.is_in(["train", "context"]))["item_id"].unique()
    found = interactions.filter(part.eq(held_out).fill_null(False))["item_id"].unique(maintain_order=True)
    return found.filter(~found.is_in(known.implode()))


def split_digest(part: pl.Series) -> str:
    """16 hex digits that are equal exactly for equal assignments, of the rows in the order of their file."""
    return parts_digest(part_codes(part))


def parts_digest(codes: PartCodes) -> str:
    """As `split_digest`, of codes."""
    return hashlib.sha256((codes + np.int8(1)).tobytes()).hexdigest()[:16]


def part_codes(part: pl.Series) -> PartCodes:
    """(N,) int8 places in PARTS; -1 where unused."""
    return part.cast(PART).to_physical().cast(pl.Int8).fill_null(UNUSED).to_numpy()


def split_record(
    interactions: pl.DataFrame, part: pl.Series, spec: SplitSpec, card: DatasetCard
) -> SplitRecord:
    """Counts, cold items and digest of an assignment."""
    cold = cold_items(interactions, part)
    counts = {name: int(part.eq(name).sum()) for name in PARTS} | {"unused": part.null_count()}
    lengths = interactions.filter(part.is_not_null())["user_id"].value_counts()["count"]
    least = {"last": 3, "random": 2, "users": 2, "time": 1, "source": 1}[spec.strategy]
    counts |= {"short_users": int((lengths < least).sum()), "cold_items": len(cold)}
    return SplitRecord(
        spec=spec, dataset=card.name, data_hash=card.data_hash(), parts_digest=split_digest(part), counts=counts,
        cold_items=cold.to_list(),
    )  # fmt: skip


def write_split(
    folder: Path, spec: SplitSpec, out: Path | None = None, *, overwrite: bool = False
) -> tuple[Path, SplitRecord]:
    """Split a prepared dataset and write `split.json` and `split.parquet` (rows as in the interactions).

    Args:
        out: by default `splits/<strategy>-<digest of the spec>` in the dataset's folder.
    """
    card = read_card(folder)
    columns = ["user_id", "item_id", "timestamp"]
    interactions = pl.read_parquet(folder / "interactions.parquet", columns=columns, glob=False)
    part = assign(interactions, spec, card.time, "file")
    record = split_record(interactions, part, spec, card)
    out = out or folder / "splits" / f"{spec.strategy}-{spec.digest()[:8]}"
    with whole_folder(out, overwrite=overwrite) as partial:
        _write(partial, interactions, part, record)
    return out, record


def _write(folder: Path, interactions: pl.DataFrame, part: pl.Series, record: SplitRecord) -> None:
    interactions.with_columns(part.cast(pl.String).alias("part")).write_parquet(folder / "split.parquet")
    (folder / "split.json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def write_own_split(
    folder: Path, card: DatasetCard, interactions: pl.DataFrame, part: pl.Series
) -> SplitRecord:
    """Keep the split of a source in the folder of its dataset: it is in force where no other is asked for.

    Args:
        part: of each row, `train`, `valid` or `test`.
    """
    part = part.cast(PART)
    record = split_record(interactions, part, SplitSpec(strategy="source"), card)
    (folder / OWN).mkdir(parents=True)
    _write(folder / OWN, interactions.select("user_id", "item_id", "timestamp"), part, record)
    return record


def own_split(folder: str | Path, spec: SplitSpec) -> Path | None:
    """The split that came with a dataset, where it has one and `spec` asks for it or for nothing in particular."""
    path = Path(folder) / OWN
    wanted = spec.strategy == "source" or spec == SplitSpec()
    return path if wanted and (path / "split.json").is_file() else None


def _split_in_force(folder: str | Path, spec: SplitSpec, split_path: str | Path | None) -> str | Path | None:
    """`split_path`, where it is given and not `none`; else the dataset's own split; None = by `spec`."""
    if split_path is not None:
        return None if str(split_path) == "none" else split_path
    return own_split(folder, spec)


def parts_of(
    folder: str | Path, card: DatasetCard, spec: SplitSpec, split_path: str | Path | None = None
) -> tuple[SplitSpec, pl.Series]:
    """The split in force and the part of each row of `interactions.parquet`: that of `split_path`, else by `spec`.

    A dataset's own split is in force where `spec` is the default or `source`; a `split_path` of `none` keeps `spec`.

    Whoever shows interactions to a model, or to a language model, takes the parts from here, or by their columns from
    `parts_of_columns`.
    """
    split_path = _split_in_force(folder, spec, split_path)
    if split_path is not None:
        return load_split(split_path, card)
    items, users = (
        pl.read_parquet(Path(folder) / f"{name}s.parquet", columns=[f"{name}_id"], glob=False).to_series()
        for name in ("item", "user")
    )
    columns = load_columns(folder, items, users, card.events, card.context)
    return spec, _named(_in_file_order(columns, divide(folder, card, columns, spec)))


def parts_of_columns(
    folder: str | Path,
    card: DatasetCard,
    columns: Columns,
    spec: SplitSpec,
    split_path: str | Path | None = None,
) -> tuple[SplitSpec, PartCodes, str]:
    """The split in force, (N,) int8 the part of each row of `columns`, and the digest of the split."""
    split_path = _split_in_force(folder, spec, split_path)
    if split_path is None:
        codes = divide(folder, card, columns, spec)
        return spec, codes, parts_digest(_in_file_order(columns, codes))
    spec, part = load_split(split_path, card)
    codes = part_codes(part)
    return spec, codes if columns.order is None else codes[columns.order], parts_digest(codes)


def divide(folder: str | Path, card: DatasetCard, columns: Columns, spec: SplitSpec) -> PartCodes:
    """(N,) int8 part of each row of the columns of a prepared dataset, by `spec`."""
    if columns.order is None:  # users come in the order in which they appear, as in `assign`
        counts = columns.stops - columns.starts
        return split_rows(columns.times, counts, spec, card.time, columns.items)
    wanted = ["user_id", "item_id", "timestamp"]
    frame = pl.read_parquet(Path(folder) / "interactions.parquet", columns=wanted, glob=False)
    return part_codes(assign(frame, spec, card.time, "file"))[columns.order]


def _in_file_order(columns: Columns, codes: PartCodes) -> PartCodes:
    if columns.order is None:
        return codes
    found = np.empty_like(codes)
    found[columns.order] = codes
    return found


def load_split(folder: str | Path, card: DatasetCard) -> tuple[SplitSpec, pl.Series]:
    """Read a split for exactly this dataset: its spec and the part of each row of `interactions.parquet`.

    Raises DataError when it was made from other data, or is damaged.
    """
    path = Path(folder) / "split.json"
    if not path.is_file():
        raise DataError(
            f"{folder} holds no split.json. Make a split with `recloom data split DIR --strategy last`."
        )
    try:
        record = SplitRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path} is not a split record: {error.errors()[0]['msg']}. Make the split again."
        ) from error
    if record.data_hash != card.data_hash():
        raise DataError(
            f"{folder} was made from dataset {record.dataset!r} with hash {record.data_hash}, but the data "
            f"given are {card.name!r} with hash {card.data_hash()}. "
            "Make the split again with `recloom data split`."
        )
    part = pl.read_parquet(Path(folder) / "split.parquet", columns=["part"], glob=False)["part"].cast(PART)
    if split_digest(part) != record.parts_digest:
        raise DataError(f"{folder}/split.parquet does not match its split.json. Make the split again.")
    return record.spec, part
