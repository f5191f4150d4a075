"""The parts of a result, kept beside it until it is whole, so that a killed command goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from recloom.errors import RecloomError

from .check import REJECTED

PLAN = "plan.json"
KEY = b"recloom"
OURS = re.compile(r"(?:part|rejected|whole)(?:-\d+)?\.parquet(?:\.tmp)?|plan\.json(?:\.tmp)?|\.lock")
ROWS = 131_072
"""Rows of a row group of the result."""


class Counts(NamedTuple):
    """What was done of a file."""

    next_row: int = 0
    """Rows of the file that are done."""
    requests: int = 0
    """Answered."""
    rejected: int = 0
    empty: int = 0
    """Answered with an empty list, because no item was left."""

    def plus(self, next_row: int, requests: int, rejected: int, empty: int) -> Counts:
        """These, and one piece more."""
        return Counts(next_row, self.requests + requests, self.rejected + rejected, self.empty + empty)


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
        self._lock: IO[str] | None = None

    @property
    def total(self) -> Counts:
        """Of all parts together."""
        if not self.done:
            return Counts()
        sums = [sum(column) for column in zip(*self.done, strict=True)]
        return Counts(self.done[-1].next_row, *sums[1:])

    def __enter__(self) -> Parts:
        if self.folder.is_dir():
            foreign = next(
                (name for name in sorted(os.listdir(self.folder)) if not OURS.fullmatch(name)), None
            )
            if foreign:
                raise RecloomError(
                    f"{self.folder} holds {foreign!r}, which was not written here; choose another --out."
                )
        self.folder.mkdir(exist_ok=True)
        self._lock = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise RecloomError(
                f"another process writes {self.out} now; wait for it, or choose another --out."
            ) from error
        try:
            self._resume()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock:
            self._lock.close()
        if kind is not None and not self.done and self.folder.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)  # nothing to go on from

    def writer(self, schema: pa.Schema) -> PartWriter:
        """The next part."""
        return PartWriter(self, len(self.done), schema)

    def finish(self, schema: pa.Schema) -> None:
        """Put the parts together as the target, and what was rejected beside it; then remove the parts."""
        if self.total.rejected:
            _join(self._files("rejected"), self.folder / "rejected.parquet.tmp", REJECTED, self.rejected)
        else:
            self.rejected.unlink(missing_ok=True)  # of an earlier result
        _join(self._files("part"), self.folder / "whole.parquet.tmp", schema, self.out)
        (self.folder / PLAN).unlink()  # from here on these are leftovers
        shutil.rmtree(self.folder)

    def first_rejected(self) -> tuple[int, str]:
        """Row and reason of the first rejected row; there must be one."""
        for file in self._files("rejected"):
            if pq.read_metadata(file).num_rows:
                first = next(pq.ParquetFile(file).iter_batches(1)).to_pylist()[0]
                return first["row"], first["reason"]
        raise AssertionError("counted as rejected, and not written")

    def _files(self, kind: str) -> list[Path]:
        return [self.folder / f"{kind}-{number:06}.parquet" for number in range(len(self.done))]

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
            for name in os.listdir(self.folder):
                if name != ".lock":
                    (self.folder / name).unlink()
            _write(path, json.dumps(self.plan, indent=2))
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
    """Writes one part: lists and rejected rows, which count once both are whole and on the disk."""

    def __init__(self, parts: Parts, number: int, schema: pa.Schema) -> None:
        self.counts = Counts()
        self._parts = parts
        self._files = [parts.folder / f"{kind}-{number:06}.parquet" for kind in ("rejected", "part")]
        self._writers = [
            pq.ParquetWriter(_partial(file), kind, compression="zstd")
            for file, kind in zip(self._files, (REJECTED, schema), strict=True)
        ]

    def add(self, lists: pa.Table, rejected: pa.Table, counts: Counts) -> None:
        """Keep what one piece gave; `counts` are those of the part so far."""
        for writer, table in zip(self._writers, (rejected, lists), strict=True):
            if len(table):
                writer.write_table(table)
        self.counts = counts

    def close(self) -> None:
        """End the part."""
        self._writers[1].add_key_value_metadata({KEY: json.dumps(self.counts).encode()})
        for writer, file in zip(self._writers, self._files, strict=True):
            writer.close()
            _sync(_partial(file))
            _partial(file).replace(file)
        self._parts.done.append(self.counts)


def _join(files: Iterable[Path], partial: Path, schema: pa.Schema, target: Path) -> None:
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for file in files:
            source = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
            for batch in source.iter_batches(ROWS, use_threads=False):
                writer.write_batch(batch)
    _sync(partial)
    partial.replace(target)


def _partial(file: Path) -> Path:
    return file.with_name(file.name + ".tmp")


def _write(path: Path, text: str) -> None:
    _partial(path).write_text(text + "\n", encoding="utf-8")
    _sync(_partial(path))
    _partial(path).replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
