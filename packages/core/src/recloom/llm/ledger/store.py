"""The ledger: every response of a language model, kept once and found again by the key of its request.

One SQLite file, created atomically and checked when it is opened. A response survives the death of the process as
soon as `put` returns (write-ahead log; a power cut may take the last moments). Several threads and several processes
may use one file.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...errors import RecloomError
from ..openai.redaction import refuse_secrets
from ..requests import LLMRequest, LLMResponse
from .export import (
    Row,
    dumps,
    export_line,
    key_of,
    read_lines,
    response_from_json,
    response_to_json,
    write_lines,
)

ENVIRONMENT = "RECLOOM_LEDGER"
DEFAULT = "llm-ledger.sqlite"
CHUNK = 500
INSERT = """
INSERT OR IGNORE INTO replies
VALUES (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, CAST(? AS TEXT))
"""
TOTALS = """
SELECT identity, json_extract(question, '$.prompt'), count(*), sum(prompt_tokens), sum(completion_tokens),
       min(asked_at), max(asked_at)
FROM replies GROUP BY 1, 2 ORDER BY 1, 2
"""


def ledger_path(path: Path | None = None) -> Path:
    """The given file, else that of the variable RECLOOM_LEDGER, else `llm-ledger.sqlite` in the current folder."""
    return path or Path(os.environ.get(ENVIRONMENT) or DEFAULT)


@dataclass(frozen=True)
class Total:
    """Responses to one prompt by one model; dates are UTC in ISO 8601."""

    model: str
    prompt: str
    responses: int
    prompt_tokens: int
    completion_tokens: int
    first: str
    last: str


class Ledger:
    """The responses in one file; made where it is absent, except offline.

    Args:
        path: the file.
        offline: only read; the file must exist, and its folder may be read-only.

    Every method raises RecloomError where the file is not a ledger, is damaged, or cannot be written.
    """

    def __init__(self, path: Path | str, *, offline: bool = False) -> None:
        self.path = Path(path)
        self.offline = offline
        self._lock = threading.Lock()
        with ledger_errors(self.path):
            self._db = open_to_read(self.path) if offline else open_to_write(self.path)

    def get_many(self, keys: Iterable[str]) -> dict[str, LLMResponse]:
        """What is held of these keys, each response marked as cached."""
        with ledger_errors(self.path):
            rows = self._select("key, reply, prompt_tokens, completion_tokens", keys)
            return {row[0]: response_from_json(*row[1:]) for row in rows}

    def put(self, key: str, identity: Mapping[str, Any], request: LLMRequest, response: LLMResponse) -> None:
        """Keep a response; where the key is held already, the earlier one stays.

        Raises LLMRequestError where identity, request or response holds the value of a secret of the environment.
        """
        texts = dumps(dict(identity)), dumps(request.as_data()), response_to_json(response)
        if key_of(*texts[:2]) != key:
            raise RecloomError(
                f"key {key[:16]!r} is not that of the request; take it from LLMRequest.key(identity)"
            )
        refuse_secrets("the request, or the response to it,", *texts)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._insert([Row(key, *texts, response.prompt_tokens, response.completion_tokens, now)])

    def export(self, path: Path, keys: Iterable[str] | None = None) -> int:
        """Write all responses, or those of some keys, as lines sorted by key; return their number.

        The file appears whole or not at all. Raises RecloomError for a key that is not held.
        """
        wanted = None if keys is None else sorted(set(keys))
        if wanted is not None and (absent := set(wanted) - self.get_many(wanted).keys()):
            raise RecloomError(
                f"{self.path} lacks {len(absent):,} of the {len(wanted):,} responses to export"
            )
        with ledger_errors(self.path):
            return write_lines(path, (export_line(Row(*row)) for row in self._select("*", wanted)))

    def load(self, path: Path) -> tuple[int, int]:
        """Take the responses of an exported file; return how many were new, and how many were held already.

        Raises RecloomError naming file and line where a line fails its checks; then nothing is taken.
        """
        total = 0
        for total, row in enumerate(read_lines(path), 1):
            refuse_secrets(f"{path}, line {total},", *row[1:4])
        rows, new = read_lines(path), 0
        while batch := list(itertools.islice(rows, CHUNK)):
            new += self._insert(batch)
        return new, total - new

    def totals(self) -> list[Total]:
        """What is held, by model and prompt."""
        with ledger_errors(self.path):
            rows = self._query(TOTALS)
        found: dict[tuple[str, str], Total] = {}
        for identity, prompt, *counts in rows:
            new = Total(model_name(json.loads(identity)), prompt, *counts)
            old = found.get((new.model, prompt))
            found[new.model, prompt] = new if old is None else _sum(old, new)
        return list(found.values())

    def close(self) -> None:
        """Let go of the file; what is kept is kept without it."""
        self._db.close()

    def _insert(self, rows: list[Row]) -> int:
        """Keep rows in one transaction; return how many were new."""
        if self.offline:
            raise RecloomError(f"{self.path} was opened offline, so nothing is written to it")
        blobs = [
            [v.encode("utf-8", "surrogatepass") if isinstance(v, str) else v for v in row] for row in rows
        ]
        with ledger_errors(self.path), self._lock:
            before = self._db.total_changes
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(INSERT, blobs)
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            return self._db.total_changes - before

    def _select(self, columns: str, keys: Iterable[str] | None) -> Iterator[tuple[Any, ...]]:
        """Rows in portions, so that neither memory nor the file is held; those of all keys in the order of keys."""
        if keys is None:
            last = ""
            while rows := self._query(
                f"SELECT {columns} FROM replies WHERE key > ? ORDER BY key LIMIT {CHUNK}", [last]
            ):
                yield from rows
                last = rows[-1][0]
            return
        wanted = iter(keys)
        while chunk := list(itertools.islice(wanted, CHUNK)):
            places = ", ".join("?" * len(chunk))
            yield from self._query(
                f"SELECT {columns} FROM replies WHERE key IN ({places}) ORDER BY key", chunk
            )

    def _query(self, sql: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()


def model_name(identity: Mapping[str, Any]) -> str:
    """The class of a language model and the model it asks."""
    parts = (identity.get("class"), identity.get("model"))
    return " ".join(part for part in parts if isinstance(part, str))


def _sum(one: Total, other: Total) -> Total:
    return Total(
        one.model, one.prompt, one.responses + other.responses, one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens, min(one.first, other.first), max(one.last, other.last),
    )  # fmt: skip


APPLICATION = 0x52434C4D  # "RCLM", in the header of the file
FORMAT = 1
PATIENCE = 60.0
"""Seconds to wait for another process that is writing."""
TABLE = """
CREATE TABLE replies (
    key TEXT PRIMARY KEY, identity TEXT NOT NULL, question TEXT NOT NULL, reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, asked_at TEXT NOT NULL
)
"""
OPTION = "--ledger (--llm.ledger in a command that asks)"
MESSAGES = {
    "not a database": f"is not a ledger. Name another file with {OPTION}",
    "malformed": "is damaged. Move it away, and fill a new one with `recloom llm import` from an export",
    "locked": f"has been written by another process for {PATIENCE:.0f} s. Wait for it, or name another ledger",
    "full": "cannot grow: the disk is full. Make room and start again; what was kept is kept",
}
"""What SQLite says, and what it means for the user."""
UNWRITABLE = f"cannot be opened or written. Check that it is a file in a writable folder, or name another with {OPTION}"


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a ledger, made where it is absent. A response written to it survives the death of the process."""
    if not path.exists():
        _create(path)
    db = _connect(path, "mode=rw")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger that exists, in a folder that may be read-only."""
    if path.exists() and not path.is_file():
        raise RecloomError(f"{path} is no file, so it is no ledger. Name another with {OPTION}.")
    if not path.exists():
        raise RecloomError(
            f"there is no ledger at {path}. Name another with {OPTION}; one is made by the first command that asks a "
            "language model, and filled by `recloom llm import FILE` from an export."
        )
    try:
        return _connect(path, "mode=ro")
    except sqlite3.OperationalError:
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise
        return _connect(path, "immutable=1")  # a folder in which SQLite may not put its shared memory


@contextmanager
def ledger_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite, JSON or the file system says into an error about the ledger."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, RecursionError) as error:
        said = "malformed" if isinstance(error, ValueError | RecursionError) else str(error)
        meaning = next((meaning for words, meaning in MESSAGES.items() if words in said), UNWRITABLE)
        raise RecloomError(f"{path} {meaning}. ({error})") from error


def _connect(path: Path, how: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?{how}"
    db = sqlite3.connect(address, PATIENCE, isolation_level=None, check_same_thread=False, uri=True)
    db.text_factory = lambda stored: stored.decode("utf-8", "surrogatepass")
    try:
        _check(path, db)
    except BaseException:
        db.close()
        raise
    return db


def _check(path: Path, db: sqlite3.Connection) -> None:
    (application,), (version,), (page,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version", "page_size")
    )
    if not path.stat().st_size:
        raise RecloomError(
            f"{path} is not a ledger: it is empty. Remove it, and a new one is made in its place."
        )
    if application != APPLICATION:
        raise RecloomError(
            f"{path} is not a ledger: it holds something else. Name another file with {OPTION}."
        )
    if version > FORMAT:
        raise RecloomError(
            f"{path} is a ledger of format {version}, and this Recloom reads formats up to {FORMAT}. "
            f"Update recloom, or name another with {OPTION}."
        )
    db.execute("SELECT count(*) FROM replies WHERE key = ''").fetchone()
    if path.stat().st_size % page:
        raise sqlite3.DatabaseError("malformed: its size is not a whole number of pages")


def _create(path: Path) -> None:
    """Make the file beside its place and put it there whole; of two processes, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(TABLE)
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
