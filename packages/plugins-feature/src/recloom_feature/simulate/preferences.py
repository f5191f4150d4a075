"""The Parquet file of `recloom simulate`: a simulated preference a row, and in its metadata what it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from recloom.data.catalog import Catalog
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
    """What the records of a file were made from, and how."""

    format: Literal["recloom-simulated-1"] = "recloom-simulated-1"
    dataset: str
    data_hash: str
    """Of the dataset's files."""
    split: SplitSpec
    split_hash: str
    training: str
    """Digest of the training rows, see `recloom.language.training_rows.training_digest`."""
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
    """Records, and what they were made from."""

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
