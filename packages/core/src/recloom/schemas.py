"""Checked models of what is read from disk or from a user. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Part = Literal["train", "valid", "test", "context"]
PARTS: tuple[Part, ...] = ("train", "valid", "test", "context")


class Record(BaseModel):
    """A record in which an unknown key is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def digest(self) -> str:
        """The first 16 hex digits of the sha256 of the canonical JSON."""
        return self._digest_of(set())

    def _digest_of(self, without: set[str]) -> str:
        text = json.dumps(
            self.model_dump(mode="json", exclude=without), sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class SourceFile(Record):
    """One raw file that a dataset was made from."""

    name: str
    bytes: int
    sha256: str


class Source(Record):
    """Where a dataset comes from."""

    reader: str
    files: list[SourceFile] = []
    url: str | None = None
    options: dict[str, Any] = {}


class EventCodes(Record):
    """The numbers that stand for what happened; 0 = unknown, and code c from 1 is `names[c - 1]`."""

    column: str
    """The column of the interactions that says what happened, such as `event` or `value`."""
    names: list[str]
    """The words of the column; of a column of numbers its values or intervals, in words."""
    cuts: list[float] = []
    """Of a column of numbers, ascending: a number has code 1 plus the number of cuts that it reaches, compared as
    float32. Empty for a column of words."""

    @property
    def listed(self) -> list[float] | None:
        """The numbers that are events themselves, ascending; None where events are words or intervals of numbers."""
        try:
            values = [float(name) for name in self.names]
        except ValueError:  # words, as intervals are told too
            return None
        return values if self.cuts and values[1:] == self.cuts else None


class ContextField(Record):
    """A field of requests, such as device, place or hour; 0 = unknown, and code c from 1 is `values[c - 1]`."""

    name: str
    """The column of the interactions that holds it."""
    values: list[str]


class TimeTies(Record):
    """Rows that share user and time with another, whose order the times do not tell. Defaults: of data prepared before
    this was looked at."""

    rule: Literal["file", "hash"] = "file"
    """What orders them: the file, or a hash of (seed, user, time, item)."""
    seed: int = 0
    asked: bool = False
    """Whether the rule was asked for."""
    rows: int | None = None
    share: float | None = None
    """Of all rows."""
    last: float | None = None
    """Share of the users with 3 rows or more whose last item is tied."""
    second_last: float | None = None
    pairs: int = 0
    """Tied neighbours in the file."""
    ascending_number: float | None = None
    """Share of these pairs whose item ids ascend as numbers."""
    ascending_text: float | None = None
    in_time_order: bool | None = None
    """Whether the rows of every user stand in time order in the file."""


class EqualTimes(Record):
    """What a number owes to the order of rows of equal user and time."""

    rule: Literal["file", "hash"] = "file"
    rows: float | None = None
    """Share of all rows that share user and time with another; null where it was not counted."""
    held_out: float | None = None
    """The same of the held-out rows."""


class DatasetCard(Record):
    """`dataset.json`: what a prepared dataset holds, and how it came about."""

    format: Literal["recloom-dataset-1"] = "recloom-dataset-1"
    name: str
    source: Source
    licence: str
    time: Literal["seconds", "order"]
    """Whether `timestamp` is Unix seconds, or only each row's position in its user's history."""
    columns: dict[str, dict[str, str]]
    """File name to column name to type."""
    counts: dict[str, int]
    """At least users, items, interactions, read, rejected."""
    sha256: dict[str, str]
    """File name to digest, for every Parquet file of the dataset."""
    events: EventCodes | None = None
    """What `Batch.history_event` counts; None where the data do not say what happened."""
    context: list[ContextField] = []
    """What `Batch.context` counts, a column for each field."""
    ties: TimeTies = TimeTies()

    def data_hash(self) -> str:
        """One digest for all the data files, stored with every number computed on them."""
        return hashlib.sha256(json.dumps(self.sha256, sort_keys=True).encode()).hexdigest()[:16]


class SplitSpec(Record):
    """How interactions are divided; together with the dataset's hash it determines the split."""

    strategy: Literal["last", "time", "random", "users", "source"] = "last"
    """`last`: each user's last item is test, the one before it validation. `time`: everything after a
    point in time is test. `random`: a share of each user's rows. `users`: a share of the users. `source`:
    as whoever published the data divided them, kept by `recloom data prepare --keep-split`."""
    valid: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows (`time`, `random`) or users (`users`) for validation; unused by `last`."""
    test: float = Field(default=0.2, gt=0, lt=1)
    """The same for test; .3 with `time` is the cold-start rule: a cold item occurs only after the cut."""
    min_user: int = Field(default=1, ge=1)
    min_item: int = Field(default=1, ge=1)
    """The k-core filter: rows are dropped until every user and item has this many."""
    seed: int = 0
    valid_from: str | None = None
    """Of `time`: the day or moment, as 2016-01-01 or 2016-01-01T12:00 in UTC, from which on rows are validation."""
    test_from: str | None = None
    """The same for test. Where one of the two is given, the other is by default as its share says."""

    @field_validator("valid_from", "test_from", mode="before")
    @classmethod
    def _moment(cls, text: Any) -> Any:
        if text is None:
            return None
        try:
            datetime.fromisoformat(str(text))
        except ValueError:
            raise ValueError(f"expected a day or a moment such as 2016-01-01, found {text!r}") from None
        return str(text)

    @model_validator(mode="after")
    def _in_order(self) -> SplitSpec:
        if (self.valid_from or self.test_from) and self.strategy != "time":
            raise ValueError(
                f"valid_from and test_from are of the strategy time, and this is {self.strategy}: say strategy time"
            )
        low, high = self.moment("valid"), self.moment("test")
        if low is not None and high is not None and low >= high:
            raise ValueError(f"valid_from ({self.valid_from}) must be before test_from ({self.test_from})")
        return self

    def __str__(self) -> str:
        """In a few words, such as `time (0.1 validation, test from 2017-01-01)`."""
        said: list[str] = [self.strategy]
        if self.strategy in ("time", "random", "users"):
            dates = (("validation", self.valid_from, self.valid), ("test", self.test_from, self.test))
            said += [f"{name} from {date}" if date else f"{share:g} {name}" for name, date, share in dates]
        if self.strategy in ("random", "users"):
            said.append(f"seed {self.seed}")
        core = {"min_user": self.min_user, "min_item": self.min_item}
        said += [f"{name} {least}" for name, least in core.items() if least > 1]
        return said[0] + (f" ({', '.join(said[1:])})" if said[1:] else "")

    def moment(self, part: Literal["valid", "test"]) -> int | None:
        """Unix seconds from which on rows belong to a part (of test: and all later ones); None = by its share."""
        text = self.valid_from if part == "valid" else self.test_from
        if text is None:
            return None
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())

    def digest(self) -> str:
        """As of any record; what is not given does not count, so that specs of before keep their digests."""
        return self._digest_of({name for name in ("valid_from", "test_from") if getattr(self, name) is None})


class Protocol(Record):
    """Everything that makes two numbers comparable; it travels with every number."""

    dataset: str
    data_hash: str
    split: SplitSpec
    split_hash: str
    part: Literal["valid", "test"]
    candidates: str
    """`all` items of the catalogue, the `impressions` of the data, the held-out interactions as they were
    `rated`, or `uniform-100`, `popular-100`."""
    positive: float | None = None
    """The value from which a `rated` interaction is labelled 1."""
    seen: Literal["masked", "kept"]
    """Whether items of the history may be recommended again."""
    ties: Literal["against the model"] = "against the model"
    measured: Literal["scores", "lists"] = "scores"
    """What was ranked: all candidates by their scores, or the lists that a recommender retrieves, beyond which every
    item is missed."""
    history: Literal["train and valid", "train"] = "train and valid"
    """What a test request may look back on (validation requests look back on train)."""
    new_users: Literal["kept", "dropped"] = "kept"
    """Whether requests without a history are measured too."""
    equal_times: EqualTimes = EqualTimes()
    users: int
    """Requests."""
    drawn_from: int | None = None
    """Of how many requests these are a part, by `--data.eval_users` or a limit of batches; null where these are all."""
    num_items: int
    added: int = 0
    """Of these items, those added after training: they have no interactions, and all are ranked."""


class Added(Record):
    """Items that a run was given after training, by `recloom items add`."""

    run: str
    """The folder of the run that was given them, as it was named."""
    file: str
    sha256: str
    items: int


class UsedRun(BaseModel):
    """Another run that a run builds on, such as a teacher."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """Its folder as it was given."""
    identity: str
    """Its model and the digest of its dataset."""
    digest: str
    """Of its checkpoint."""


class RunRecord(Record):
    """`run.json`: what a run is, so that it can be reproduced and compared."""

    format: Literal["recloom-run-1"] = "recloom-run-1"
    model: str
    recommender: dict[str, Any]
    """`class_path` and `init_args`."""
    loss: str | None
    seed: int
    data: str
    """The folder of the dataset as it was given."""
    protocol: Protocol
    epochs: int
    steps: int
    best: float | None
    """The monitored validation metric of the best checkpoint."""
    seconds: float
    """Wall time of the fit, of all its parts where it was interrupted."""
    cpu_seconds: float | None = None
    """CPU time of the same, of the first process where there are several; None in records from before it was kept."""
    parameters: int | None = None
    """Numbers that training may change; 0 where nothing is trained."""
    versions: dict[str, str]
    llm: dict[str, Any] | None = None
    """Identities of the language models and versions of the prompts, where the recommender asks any."""
    runs: dict[str, UsedRun] = {}
    """Other runs that it builds on, by where its recommender or loss holds them."""
    added: list[Added] = []
    """Items that came after the fit; the numbers of this record hold for the items before them."""


class ModuleRecord(Record):
    """`run.json` of a module that is no recommender."""

    format: Literal["recloom-module-1"] = "recloom-module-1"
    module: str
    seed: int
    data: str
    """The folder of the data as it was given."""
    protocol: dict[str, str | int | float]
    """The data's digest, how they are split, and what else makes two numbers comparable."""
    epochs: int
    steps: int
    monitor: str
    best: float | None
    """The monitored validation metric of the best checkpoint."""
    seconds: float
    versions: dict[str, str]


class ModuleResults(Record):
    """`metrics.json` of a module that is no recommender."""

    format: Literal["recloom-module-results-1"] = "recloom-module-results-1"
    module: str
    seed: int
    protocol: dict[str, str | int | float]
    checkpoint: str
    """`best` by validation, or another one that was asked for."""
    epoch: int
    """The epoch of that checkpoint, counted from 1."""
    monitor: str
    metrics: dict[str, float]
    versions: dict[str, str]


class Recommendation(Record):
    """One recommended item."""

    item_id: str
    score: float
    title: str
