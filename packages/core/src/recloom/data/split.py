"""Which part each interaction belongs to: decided by a `SplitSpec` and the data alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import ValidationError

from ..errors import DataError
from ..io import new_directory
from ..schemas import PARTS, DatasetCard, Record, SplitSpec
from .card import read_card
from .prepare.encode import Codes, factorise, in_order, positions

TRAIN, VALID, TEST, CONTEXT = range(4)
UNUSED = -1
PART = pl.Enum(PARTS)
Ints = np.ndarray[Any, np.dtype[Any]]


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
    interactions: pl.DataFrame, spec: SplitSpec, time: Literal["seconds", "order"] = "seconds"
) -> pl.Series:
    """The part of each row: `train`, `valid`, `test`, `context` (history of a held-out user), null if unused.

    * `last`: each user's last row is test and the one before it valid; users with fewer than 3 rows
      are train altogether.
    * `time`: the newest `test` share of all rows is test, the `valid` share before it valid. Rows of
      equal time are never divided: those at a cut go to the later part.
    * `random`: a share of each user's rows, rounded, at least one row stays in train.
    * `users`: a share of the users is held out; the last row of each is the part, the rows before it
      are context. Users with one row are never held out.

    The k-core filter comes first: rows of users with fewer than `min_user` and of items with fewer than
    `min_item` rows are dropped until none is left. Rows may come in any order; equal times of a user
    keep it.

    Args:
        interactions: `user_id`, `item_id`, `timestamp`.
        time: `order` where timestamps are positions only, which `time` refuses.
    """
    users, _ = factorise(interactions["user_id"].cast(pl.String))
    items, _ = factorise(interactions["item_id"].cast(pl.String))
    times = interactions["timestamp"].to_numpy()
    kept = k_core(users, items, spec.min_user, spec.min_item)
    order = in_order(users, times)
    order = order[kept[order]]
    codes = np.full(len(users), UNUSED, np.int8)
    codes[order] = _parts(users[order], times[order], spec, time)
    names = pl.Series([None, *PARTS], dtype=PART)
    return names.gather(codes.astype(np.int64) + 1).alias("part")


def _parts(users: Codes, times: Ints, spec: SplitSpec, time: str) -> Ints:
    """Codes of rows that are sorted by user and time."""
    if spec.strategy == "time":
        return _by_time(times, spec, time)
    place = positions(users)
    length = np.bincount(users, minlength=1)[users] if len(users) else place
    if spec.strategy == "last":
        held_out = np.where(place == length - 1, TEST, np.where(place == length - 2, VALID, TRAIN))
        return np.where(length >= 3, held_out, TRAIN)
    if spec.valid + spec.test >= 1:
        raise _shares(spec)
    random = np.random.default_rng(spec.seed)
    if spec.strategy == "random":
        return _at_random(users, length, spec, random)
    return _by_user(users, place, length, spec, random)


def _by_time(times: Ints, spec: SplitSpec, time: str) -> Ints:
    if time == "order":
        raise DataError(
            "the split strategy `time` needs real times, and these data know only each user's order "
            "(dataset.json: time is 'order'). Use --strategy last, random or users."
        )
    if spec.valid + spec.test >= 1:
        raise _shares(spec)
    ordered, total = np.sort(times), len(times)
    first_test = total - round(total * spec.test)
    first_valid = first_test - round(total * spec.valid)
    codes = np.full(total, TRAIN)
    for first, part in ((first_valid, VALID), (first_test, TEST)):
        if first < total:
            codes[times >= ordered[first]] = part
    return codes


def _shares(spec: SplitSpec) -> DataError:
    return DataError(
        f"valid ({spec.valid:g}) and test ({spec.test:g}) together leave nothing to train on. "
        "Choose shares that sum to less than 1."
    )


def _at_random(users: Codes, length: Ints, spec: SplitSpec, random: np.random.Generator) -> Ints:
    shuffled = np.lexsort((random.random(len(users)), users))
    test = np.minimum(np.rint(length * spec.test), length - 1)
    valid = np.minimum(np.rint(length * spec.valid), length - 1 - test)
    place = positions(users)  # of the shuffled rows: `users` and `length` are the same there
    codes = np.empty(len(users), np.int64)
    codes[shuffled] = np.where(place < test, TEST, np.where(place < test + valid, VALID, TRAIN))
    return codes


def _by_user(users: Codes, place: Ints, length: Ints, spec: SplitSpec, random: np.random.Generator) -> Ints:
    present, first = np.unique(users, return_index=True)
    eligible = random.permutation(present[length[first] >= 2])
    num_test, num_valid = (round(len(present) * share) for share in (spec.test, spec.valid))
    fate = np.full(int(users.max(initial=0)) + 1, TRAIN)
    fate[eligible[:num_test]] = TEST
    fate[eligible[num_test : num_test + num_valid]] = VALID
    mine = fate[users]
    return np.where((mine != TRAIN) & (place < length - 1), CONTEXT, mine)


def k_core(users: Codes, items: Codes, min_user: int, min_item: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
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
    """16 hex digits that are equal exactly for equal assignments."""
    codes = (part.cast(PART).to_physical().cast(pl.Int16) + 1).fill_null(0).cast(pl.UInt8)
    return hashlib.sha256(codes.to_numpy().tobytes()).hexdigest()[:16]


def split_record(
    interactions: pl.DataFrame, part: pl.Series, spec: SplitSpec, card: DatasetCard
) -> SplitRecord:
    """Counts, cold items and digest of an assignment."""
    cold = cold_items(interactions, part)
    counts = {name: int(part.eq(name).sum()) for name in PARTS} | {"unused": part.null_count()}
    lengths = interactions.filter(part.is_not_null())["user_id"].value_counts()["count"]
    least = {"last": 3, "random": 2, "users": 2, "time": 1}[spec.strategy]
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
    part = assign(interactions, spec, card.time)
    record = split_record(interactions, part, spec, card)
    out = out or folder / "splits" / f"{spec.strategy}-{spec.digest()[:8]}"
    with new_directory(out, overwrite=overwrite) as partial:
        interactions.with_columns(part.cast(pl.String)).write_parquet(partial / "split.parquet")
        (partial / "split.json").write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return out, record


def parts_of(
    folder: str | Path, card: DatasetCard, spec: SplitSpec, split_path: str | Path | None = None
) -> tuple[SplitSpec, pl.Series]:
    """The split in force and the part of each row of `interactions.parquet`: that of `split_path`, else by `spec`.

    Whoever shows interactions to a model, or to a language model, takes the parts from here.
    """
    if split_path is not None:
        return load_split(split_path, card)
    columns = ["user_id", "item_id", "timestamp"]
    frame = pl.read_parquet(Path(folder) / "interactions.parquet", columns=columns, glob=False)
    return spec, assign(frame, spec, card.time)


def split_words(split: SplitSpec, split_path: str | Path | None) -> list[str]:
    """The options with which `recloom fit` divides a dataset so."""
    if split_path is not None:
        return ["--data.split_path", str(split_path)]
    changed = split.model_dump(mode="json", exclude_defaults=True)
    return [word for name, value in changed.items() for word in (f"--data.split.{name}", str(value))]


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
