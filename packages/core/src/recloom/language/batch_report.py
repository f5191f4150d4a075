"""What came of a batch's results, told in a few lines; its failures in a file, as every command keeps its own."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from ..terminal import visible
from .answers import failure_lines
from .batch_files import Taken
from .reply_lines import write_lines

REASONS = 10
NAMED = 3
"""How many reasons are told, and how many ids of each."""
ID = 16
"""Characters of an id that are shown; the file holds all of them."""


def tell(taken: Taken, ledger: Path) -> None:
    """Print counts, then the most frequent reasons of failures, each with the first ids that it befell."""
    print(f"{taken.kept:,} replies are new in {ledger}, {taken.held:,} were held already")
    print(f"{len(taken.failures):,} results failed, {taken.unknown:,} belong to no open question")
    print(f"{taken.missing:,} questions have no result")
    by_reason = sorted(taken.failures, key=lambda row: row[1].reason)
    groups = [list(group) for _, group in groupby(by_reason, lambda row: row[1].reason)]
    groups.sort(key=len, reverse=True)
    for rows in groups[:REASONS]:
        ids = ", ".join(f"{key[:ID]}…" for key, _ in rows[:NAMED])
        more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
        print(visible(f"  {len(rows):,} x {rows[0][1].reason}".replace("\n", " ")))
        print(f"      {ids}{more}")
    if len(groups) > REASONS:
        print(f"  and {len(groups) - REASONS:,} other reasons")


def keep_failures(taken: Taken, results: Path) -> None:
    """Write what failed beside the results, and say where; without failures there is no such file."""
    beside = results.with_name(f"{results.stem}.failures.jsonl")
    if not taken.failures:
        beside.unlink(missing_ok=True)
        return
    write_lines(beside, [failure_lines(taken.failures).encode()])
    print(f"what failed, and why: {beside}")
