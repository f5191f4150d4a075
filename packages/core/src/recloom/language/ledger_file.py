"""The SQLite file of a ledger: made whole, opened with a check of what it is, its errors told in words."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..errors import RecloomError

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
SAID = {
    "not a database": "is not a ledger. Name another file with --ledger",
    "malformed": "is damaged. Move it away, and fill a new one with `recloom llm import` from an export",
    "locked": f"has been written by another process for {PATIENCE:.0f} s. Wait for it, or name another ledger",
    "full": "cannot grow: the disk is full. Make room and start again; what was kept is kept",
}
"""What SQLite says, and what it means for the user."""
UNWRITABLE = (
    "cannot be opened or written. Check that it is a file in a writable folder, or name another with --ledger"
)


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a ledger, made where it is absent. A reply written to it survives the death of the process."""
    if not path.exists():
        _create(path)
    db = _connect(path, "mode=rw")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger that exists, in a folder that may be read-only."""
    if path.exists() and not path.is_file():
        raise RecloomError(f"{path} is no file, so it is no ledger. Name another with --ledger.")
    if not path.exists():
        raise RecloomError(
            f"there is no ledger at {path}. Name another with --ledger; one is made by the first command that asks a "
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
def told(path: Path) -> Iterator[None]:
    """Turn what SQLite, JSON or the file system says into an error about the ledger."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, RecursionError) as error:
        said = "malformed" if isinstance(error, ValueError | RecursionError) else str(error)
        meaning = next((meaning for words, meaning in SAID.items() if words in said), UNWRITABLE)
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
    if application != APPLICATION:
        raise RecloomError(
            f"{path} is not a ledger: it holds something else. Name another file with --ledger."
        )
    if version > FORMAT:
        raise RecloomError(
            f"{path} is a ledger of format {version}, and this Recloom reads formats up to {FORMAT}. "
            "Update recloom, or name another with --ledger."
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
