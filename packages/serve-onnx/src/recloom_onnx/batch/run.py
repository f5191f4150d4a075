"""A file of requests to a file of lists, in constant memory."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recloom.errors import RecloomError, at_least
from recloom.io import writable
from recloom.progress import Progress

from ..artifact.session import Provider, Session
from .check import split
from .lists import BatchRecommender, Layout
from .parts import Counts, Parts, is_rejected, rejected_path
from .requests import RequestFile

PIECE = 4096
"""Requests that are read, answered and written at a time, at most."""
PLACES = 1_000_000
"""Places of their lists, at most."""
PART = 16_384
"""Requests of a part: so much is done again after a kill, at most."""


class BatchResult(NamedTuple):
    """The outcome of `recommend_file`."""

    counts: Counts
    resumed: int
    """Rows of the input that were done before."""
    seconds: float
    rate: float
    """Requests answered in a second, those from before not counted."""
    rejected: Path
    """Where rejected rows are, if there are any."""


def recommend_file(
    artefact: str | Path,
    users: str | Path,
    out: str | Path,
    *,
    k: int = 10,
    exclude: Sequence[str] = (),
    layout: Layout = "rows",
    max_rejected: float = 0.01,
    restart: bool = False,
    provider: Provider = "cpu",
    threads: int | None = None,
    part: int = PART,
) -> BatchResult:
    """Write lists for all requests of a file to a Parquet file, which appears complete or not at all.

    Finished parts lie in `OUT.parts` until then, and the same call goes on from them.

    Args:
        artefact: `model.onnx`, verified.
        users: Parquet file of requests, or a prepared dataset; see `RequestFile`.
        out: Parquet file; one that is there is replaced at the end.
        k: length of the lists.
        exclude: raw item ids that no list holds.
        layout: `rows` for one row for each place, `lists` for one for each request.
        max_rejected: the share of rejected rows above which the target is not written.
        restart: drop the parts of another task.
        provider: where the artefact runs.
        threads: of onnxruntime; None: as many as it likes.
        part: requests of a part.

    Raises RecloomError; what was finished by then is kept.
    """
    at_least(1, k=k, part=part)
    out = Path(out)
    writable(out, endings=(".parquet",))
    session = Session(artefact, provider=provider, threads=threads)
    requests = RequestFile(users, session.manifest)
    _check_apart(out, requests.path)
    _check_rejected(rejected_path(out), requests.path)
    recommender = BatchRecommender(session, k, exclude, layout, (requests.key, requests.key_type))
    plan = {
        "artefact": session.manifest.files,
        "users": requests.fingerprint(),
        "k": k,
        "exclude": list(exclude),
        "layout": layout,
    }
    start = time.perf_counter()
    with Parts(out, plan, restart) as parts:
        before = parts.total
        try:
            _answer(requests, recommender, parts, max(1, min(PIECE, part, PLACES // recommender.k)), part)
        except KeyboardInterrupt as stop:
            raise type(stop)(f"interrupted; {_far(parts, requests)}") from None
        except OSError as error:
            raise _stopped(parts, requests, error) from error
        _check_share(parts, requests, max_rejected)
        try:
            parts.finish(recommender.schema)
        except OSError as error:
            raise _stopped(parts, requests, error) from error
        total = parts.total
    _warn_of_unknown(total, recommender, session)
    seconds = time.perf_counter() - start
    return BatchResult(
        total, before.next_row, seconds, (total.requests - before.requests) / seconds, parts.rejected
    )


def _answer(requests: RequestFile, recommender: BatchRecommender, parts: Parts, rows: int, part: int) -> None:
    writer = None
    done = parts.total.next_row
    with Progress("recommending", requests.num_rows, done) as progress:
        for piece in requests.pieces(parts.total.next_row, rows):
            good, rejected = split(piece.table)
            lists, found = recommender(good)
            writer = writer or parts.writer(recommender.schema)
            counts = writer.counts.plus(piece.next_row, found._replace(rejected=len(rejected)))
            writer.add(lists, rejected, counts)
            if counts.requests + counts.rejected >= part:
                writer.close()
                writer = None
            progress.advance(piece.next_row - done)
            done = piece.next_row
        if writer:
            writer.close()


def _warn_of_unknown(total: Counts, recommender: BatchRecommender, session: Session) -> None:
    """Warn of users and items that count for nothing: their lists look like any other."""
    users, items = recommender.examples["users"], recommender.examples["items"]
    if total.unknown_users:
        warnings.warn(
            f"{total.unknown_users:,} of {total.requests:,} requests are of users that {session.path} does not know"
            f"{_shown(users)}: each has the list of somebody with this history, or what is popular without one",
            stacklevel=3,
        )
    if total.unknown_items:
        warnings.warn(
            f"{total.unknown_items:,} of {total.items:,} items of the histories are not known to {session.path}"
            f"{_shown(items)}, so they count for nothing; its ids are such as {session.item_ids[0]!r}",
            stacklevel=3,
        )


def _shown(names: Sequence[str]) -> str:
    """The first unknown ids in brackets; none where they were met before this command went on."""
    return f" (such as {', '.join(map(repr, names))})" if names else ""


def _check_apart(out: Path, users: Path) -> None:
    if out.exists() and out.samefile(users):
        raise RecloomError(
            f"{out} is the file of requests itself, which would be replaced; choose another --out"
        )


def _check_rejected(path: Path, users: Path) -> None:
    """What will be replaced or removed must be a list of rejected rows, and not the one that is read."""
    if not path.exists():
        return
    if path.samefile(users):
        raise RecloomError(
            f"{path} is the file of requests itself, and rejected rows would go there; choose another --out"
        )
    if not is_rejected(path):
        raise RecloomError(
            f"rejected rows would go to {path}, which holds something else; choose another --out"
        )


def _check_share(parts: Parts, requests: RequestFile, most: float) -> None:
    total = parts.total
    every = total.requests + total.rejected
    if not every:
        raise RecloomError(f"{requests.path} holds no rows, so there is no list to write")
    if total.rejected / every <= most and total.requests:
        return
    row, reason = parts.first_rejected()
    raise RecloomError(
        f"{total.rejected:,} of {every:,} requests of {requests.path} cannot be answered, more than --max-rejected "
        f"{most:g} of them; the first is row {row:,}: {reason}. {parts.out} was not written. What is done is kept in "
        f"{parts.folder}, with each rejected row in its rejected-*.parquet; mend the file and pass --restart, or "
        "repeat the command with a larger --max-rejected."
    )


def _far(parts: Parts, requests: RequestFile) -> str:
    if not parts.done:
        return f"no part of {requests.num_rows:,} rows was finished, so the same command begins anew."
    kept = f"{parts.total.next_row:,} of {requests.num_rows:,} rows are done and kept in {parts.folder}"
    return f"{kept}. The same command goes on from there."


def _stopped(parts: Parts, requests: RequestFile, error: OSError) -> RecloomError:
    """The error of a write that failed, such as on a full disk."""
    return RecloomError(f"cannot go on in {parts.folder}: {error.strerror or error}. {_far(parts, requests)}")
