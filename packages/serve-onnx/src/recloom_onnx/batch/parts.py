"""Parts of a result, kept beside it until it is complete, so that a killed command resumes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from recloom.errors import RecloomError
from recloom.io import LOCK, is_temporary, try_lock, whole_file, write_text

from .check import REJECTED

if TYPE_CHECKING:
    from filelock import BaseFileLock

PLAN = "plan.json"
KEY = b"recloom"
OURS = re.compile(r"(?:part|rejected)-\d+\.parquet|plan\.json|\.lock")
ROWS = 131_072
"""Rows of a row group of the result."""


class Counts(NamedTuple):
    """Rows of a file that are done, by outcome."""

    next_row: int = 0
    """Rows of the file that are done."""
    requests: int = 0
    """Answered."""
    rejected: int = 0
    empty: int = 0
    """Answered with an empty list, because no item was left."""
    items: int = 0
    """Items of the histories."""
    unknown_items: int = 0
    """Those that the artefact does not know, which count for nothing."""
    unknown_users: int = 0
    """Requests of users that the artefact reads and does not know."""

    def plus(self, next_row: int, piece: Counts) -> Counts:
        """The counts with those of one more piece, which ends before `next_row`."""
        return Counts(next_row, *(sum(pair) for pair in zip(self[1:], piece[1:], strict=True)))


class Parts:
    """A folder `OUT.parts` with finished parts and a record of what made them; used as a context.

    Args:
        out: the Parquet file that is to be.
        plan: what the parts depend on, by names that a user knows; all of it must be equal to go on.
        restart: drop the parts of another plan instead of refusing.

    Raises RecloomError where the parts are of another plan, or another process writes them.
    """

    def __init__(self, out: Path, plan: dict[str, Any], restart: bool = False) -> None:
        self.out, self.folder, self.plan, self.restart = out, Path(f"{out}.parts"), plan, restart
        self.rejected = rejected_path(out)
        self.done: list[Counts] = []
        self._lock: BaseFileLock | None = None

    @property
    def total(self) -> Counts:
        """The counts of all parts together."""
        if not self.done:
            return Counts()
        sums = [sum(column) for column in zip(*self.done, strict=True)]
        return Counts(self.done[-1].next_row, *sums[1:])

    def __enter__(self) -> Parts:
        if self.folder.is_dir():
            names = sorted(os.listdir(self.folder))
            foreign = next((one for one in names if not (OURS.fullmatch(one) or is_temporary(one))), None)
            if foreign:
                raise RecloomError(
                    f"{self.folder} holds {foreign!r}, which was not written here; choose another --out."
                )
        self.folder.mkdir(exist_ok=True)
        self._lock = try_lock(self.folder / LOCK)
        if self._lock is None:
            raise RecloomError(
                f"another process writes {self.out} now; wait for it, or choose another --out."
            )
        try:
            self._resume()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # without a part there is nothing to go on from
            self._clear(lambda name: is_temporary(name) or not self.done)
        self._leave()

    def writer(self, schema: pa.Schema) -> PartWriter:
        """The next part."""
        return PartWriter(self, len(self.done), schema)

    def finish(self, schema: pa.Schema) -> None:
        """Put the parts together as the target, and what was rejected beside it; then remove the parts."""
        if self.total.rejected:
            _join(self._files("rejected"), REJECTED, self.rejected)
        else:
            self.rejected.unlink(missing_ok=True)  # of an earlier result
        _join(self._files("part"), schema, self.out)
        (self.folder / PLAN).unlink()  # from here on these are leftovers
        self._clear(lambda name: True)

    def first_rejected(self) -> tuple[int, str]:
        """Row and reason of the first rejected row; there must be one."""
        for file in self._files("rejected"):
            if pq.read_metadata(file).num_rows:
                first = next(pq.ParquetFile(file).iter_batches(1)).to_pylist()[0]
                return first["row"], first["reason"]
        raise AssertionError("counted as rejected, and not written")

    def _files(self, kind: str) -> list[Path]:
        return [self.folder / f"{kind}-{number:06}.parquet" for number in range(len(self.done))]

    def _clear(self, unwanted: Callable[[str], bool]) -> None:
        """Remove files of the folder; the lock is held and stays."""
        for name in os.listdir(self.folder):
            if name != LOCK and unwanted(name):
                (self.folder / name).unlink()

    def _leave(self) -> None:
        """Release the lock, and remove the folder where nothing else is left in it."""
        assert self._lock is not None
        if set(os.listdir(self.folder)) <= {LOCK}:
            with suppress(OSError):  # Windows removes no open file, but as it is released
                (self.folder / LOCK).unlink()
        self._lock.release()
        with suppress(OSError):  # there are parts, or another process begins
            self.folder.rmdir()

    def _resume(self) -> None:
        path = self.folder / PLAN
        found = json.loads(path.read_bytes()) if path.is_file() else None
        if found is not None and found != self.plan and not self.restart:
            names = [name for name in {**found, **self.plan} if found.get(name) != self.plan.get(name)]
            differs = ", ".join(
                f"{name} was {_short(found.get(name))}, now {_short(self.plan.get(name))}" for name in names
            )
            raise RecloomError(
                f"{self.folder} holds parts of another task, so they were not gone on from: {differs}. "
                "Repeat what made them, or begin anew with --restart, which drops them."
            )
        if found != self.plan:
            self._clear(lambda name: True)
            write_text(path, json.dumps(self.plan, indent=2) + "\n")
        self._clear(is_temporary)  # of a killed process
        while (self.folder / f"part-{len(self.done):06}.parquet").is_file():
            metadata = pq.read_metadata(self.folder / f"part-{len(self.done):06}.parquet").metadata
            self.done.append(Counts(*json.loads(metadata[KEY])))


def rejected_path(out: Path) -> Path:
    """Where rejected rows of a result go."""
    return out.with_name(f"{out.stem}.rejected{out.suffix}")


def is_rejected(path: Path) -> bool:
    """Whether a file is such a list, of an earlier result."""
    try:
        return bool(pq.read_schema(path).names == REJECTED.names)
    except (OSError, pa.ArrowInvalid):
        return False


class PartWriter:
    """Writes one part: lists and rejected rows, which count once both are complete and on the disk."""

    def __init__(self, parts: Parts, number: int, schema: pa.Schema) -> None:
        self.counts = Counts()
        self._parts = parts
        self._whole = ExitStack()
        self._writers = [
            pq.ParquetWriter(
                self._whole.enter_context(whole_file(parts.folder / f"{kind}-{number:06}.parquet")),
                columns,
                compression="zstd",
            )
            for kind, columns in (("part", schema), ("rejected", REJECTED))  # closed in the other order
        ]

    def add(self, lists: pa.Table, rejected: pa.Table, counts: Counts) -> None:
        """Write the lists and rejected rows of one piece; `counts` are those of the part so far."""
        for writer, table in zip(self._writers, (lists, rejected), strict=True):
            if len(table):
                writer.write_table(table)
        self.counts = counts

    def close(self) -> None:
        """Finish the part: its files are synced and get their names."""
        self._writers[0].add_key_value_metadata({KEY: json.dumps(self.counts).encode()})
        for writer in self._writers:
            writer.close()
        self._whole.close()
        self._parts.done.append(self.counts)


def _join(files: Iterable[Path], schema: pa.Schema, target: Path) -> None:
    with whole_file(target) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for file in files:
            source = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
            for batch in source.iter_batches(ROWS, use_threads=False):
                writer.write_batch(batch)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
