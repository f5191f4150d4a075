"""Simulated preferences: pairs of cold items, the decision from both orders, and the Parquet file that keeps them.

An order (A, B) shows one item as A and the other as B. Of a pair x, y

    agreement     x as A and x as B is chosen, or y as A and y as B
    score of x    (log p("A") where x is A + log p("B") where x is B) / 2, of y likewise
    confidence    sigmoid(score of x - score of y) of the preferred one
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError
from recloom.data import Catalog
from recloom.errors import DataError
from recloom.schemas import Record, SplitSpec

METADATA = b"recloom.simulated"
SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "preferred": pl.String,
    "other": pl.String,  # null in positive mode
    "confidence": pl.Float64,  # null where the model answered in words
    "agreed": pl.Boolean,
    "prompt": pl.String,
    "source": pl.List(pl.Int64),
}
Ints = np.ndarray[Any, np.dtype[np.int64]]


class MadeFrom(Record):
    """Metadata of a file of simulated preferences: data, split, options and language model."""

    format: Literal["recloom-simulated-1"] = "recloom-simulated-1"
    dataset: str
    data_hash: str
    """Of the dataset's files."""
    split: SplitSpec
    split_hash: str
    training: str
    """Digest of the training rows, see `recloom.llm.training_digest`."""
    augment: Literal["pairwise", "positive"]
    asked_by: Literal["scores", "answers"]
    """Whether log-probabilities of the letters were compared, or a letter was read from an answer."""
    disagreement: Literal["drop", "calibrate"]
    users: float
    pairs: int
    history: int
    columns: list[str] | None
    seed: int
    prompt: str
    model: dict[str, Any]
    """The identity of the language model."""
    asked: int
    """Pairs, each asked in both orders."""
    failed: int
    """Pairs of which an order has no usable answer."""
    same_letter: int
    """Pairs that were answered with one letter in both orders."""

    @property
    def position_bias(self) -> float | None:
        """The share of the answered pairs with one letter in both orders; None where none was answered."""
        answered = self.asked - self.failed
        return self.same_letter / answered if answered else None


@dataclass(frozen=True)
class Simulated:
    """Simulated preferences, with the metadata of their file."""

    path: Path
    records: pl.DataFrame
    made_from: MadeFrom

    def indices(self, catalog: Catalog) -> dict[str, Ints]:
        """`users`, `preferred` and `other` as indices of a catalogue, 0 for no other item.

        Raises DataError for an id that the catalogue does not know.
        """
        found = {}
        for name, column in (("users", "user_id"), ("preferred", "preferred"), ("other", "other")):
            ids = self.records[column]
            index = catalog.user_index(ids) if name == "users" else catalog.item_index(ids)
            unknown = ids.filter(pl.Series(index == 0) & ids.is_not_null())
            if len(unknown):
                raise DataError(
                    f"{self.path} names {column} {unknown[0]!r}, which this run's catalogue does not hold; it was "
                    f"made from dataset {self.made_from.dataset!r}. Simulate with the data of this run."
                )
            found[name] = index
        return found


def read_simulated(path: Path) -> Simulated:
    """Read a file of `recloom simulate`; DataError where it is none, or where its rows and its mode disagree."""
    if not path.is_file():
        raise DataError(f"{path}: expected a file of `recloom simulate`, found no such file")
    try:
        table = pq.read_table(path)
        made_from = MadeFrom.model_validate_json((table.schema.metadata or {}).get(METADATA, b""))
        records = pl.DataFrame(table.select(list(SCHEMA)).to_pydict(), schema=SCHEMA)
    except (pa.ArrowInvalid, ValidationError, KeyError, OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{path} is not a file of `recloom simulate` ({str(error).splitlines()[0]}). Make one with "
            "`recloom simulate DATA`."
        ) from error
    without = records["other"].null_count()
    if without != (len(records) if made_from.augment == "positive" else 0):
        raise DataError(
            f"{path} was made with --augment {made_from.augment}, but {without:,} of its {len(records):,} records "
            "have no `other` item. Simulate again."
        )
    return Simulated(path, records, made_from)


def simulated_table(records: list[dict[str, Any]]) -> pa.Table:
    """The records in their order."""
    return pl.DataFrame(records, schema=SCHEMA).to_arrow()


Letter = Literal["A", "B"]
LETTERS: tuple[Letter, Letter] = ("A", "B")


class Choice(BaseModel):
    """The answer schema of a model without log-probabilities."""

    model_config = ConfigDict(extra="forbid")
    answer: Letter


@dataclass(frozen=True)
class PairDecision:
    """The decision from the two answers about a pair.

    Attributes:
        first: whether the first item of the pair is preferred; None = neither.
        same_letter: whether both orders were answered with one letter.
        confidence: None where no probabilities are known, or nothing is preferred.
    """

    first: bool | None
    same_letter: bool
    confidence: float | None = None


def by_answers(forth: Letter, back: Letter) -> PairDecision:
    """From the letters chosen where the first item was A, and where it was B."""
    if forth == back:
        return PairDecision(None, True)
    return PairDecision(forth == "A", False)


def by_scores(
    forth: Sequence[float], back: Sequence[float], disagreement: Literal["drop", "calibrate"]
) -> PairDecision:
    """From the log-probabilities of A and B in both orders.

    Where the orders disagree nothing is preferred, or with `calibrate` what has the higher averaged score. Equal
    log-probabilities choose no letter, so such a pair is undecided and no sign of bias.
    """
    gap = ((forth[0] - forth[1]) - (back[0] - back[1])) / 2  # score of the first - score of the second
    letters = [(a > b) - (a < b) for a, b in (forth, back)]  # 1 = A, -1 = B, 0 = neither
    agreed, same = letters[0] * letters[1] < 0, letters[0] * letters[1] > 0
    if gap == 0 or not (agreed or disagreement == "calibrate"):
        return PairDecision(None, same)
    return PairDecision(gap > 0, same, 1 / (1 + math.exp(-abs(gap))))


def draw_pairs(
    users: list[str], cold: list[str], held_out: pl.DataFrame, count: int, random: np.random.Generator
) -> list[tuple[str, str, str]]:
    """For each user up to `count` different pairs of cold items: (user, first, second).

    Items of the user's held-out rows are left out, so that no record reveals one; a user with too
    few items left gets fewer pairs.
    """
    place = {item: at for at, item in enumerate(cold)}
    held: dict[str, set[int]] = {user: set() for user in users}
    for user, item in held_out.filter(pl.col("item_id").is_in(cold)).iter_rows():
        held.get(user, set()).add(place[item])
    return [
        (user, cold[first], cold[second])
        for user in users
        for first, second in _pairs_of(len(cold), sorted(held[user]), count, random)
    ]


def _pairs_of(
    items: int, absent: list[int], count: int, random: np.random.Generator
) -> list[tuple[int, int]]:
    """Up to `count` of all the pairs of the numbers below `items` without the absent ones, equally likely."""
    free = items - len(absent)
    every = free * (free - 1) // 2
    drawn = random.choice(every, min(count, every), replace=False).tolist() if every else []
    found = []
    for number in drawn:  # the pairs by their larger place: (0, 1), (0, 2), (1, 2), (0, 3), ...
        larger = (1 + math.isqrt(1 + 8 * number)) // 2
        smaller = number - larger * (larger - 1) // 2
        found.append((_skipping(smaller, absent), _skipping(larger, absent)))
    return found


def _skipping(place: int, absent: list[int]) -> int:
    """The place-th of the numbers from 0 that are not absent."""
    for one in absent:
        place += one <= place
    return place
