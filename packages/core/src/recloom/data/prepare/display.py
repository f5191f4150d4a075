"""What the data commands print."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...errors import DataError
from ...next_steps import then
from ...schemas import DatasetCard
from ...terminal import plain, visible
from ..card import CARD
from .ties import ties_in_words

if TYPE_CHECKING:
    from ..split import SplitRecord
    from .check import Finding

ROWS = 10
"""Rejected rows shown at most; all of them are in rejected.parquet."""
SENTENCE = 400
"""Columns of a sentence shown at most; it may name files and ids."""


def show_prepared(out: Path, card: DatasetCard, notes: list[str], rejected: pl.DataFrame) -> None:
    """What was read, how it was understood, what was rejected and why."""
    console = Console()
    if card.source.files:
        files = Counter(file.name for file in card.source.files)
        names = ", ".join(
            f"{name} ({count:,} of this name)" if count > 1 else name for name, count in files.items()
        )
        console.print(plain(f"  read as {card.source.reader}: {names}", SENTENCE))
    for note in notes:
        console.print(plain(f"  {note}", SENTENCE))
    time = "Unix seconds" if card.time == "seconds" else "the order of rows (the source has no times)"
    console.print(f"  time: {time}")
    if card.time == "seconds":
        console.print(plain(f"  equal times: {ties_in_words(card.ties)}", SENTENCE))
    if card.source.reader != "synth":
        console.print(plain(f"  licence: {card.licence}", SENTENCE))
    print(visible(str(out)))
    table = Table(box=None)
    table.add_column("what")
    table.add_column("count", justify="right")
    shown = {name: count for name, count in card.counts.items() if count or name == "rejected"}
    for name, count in shown.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    console.print(table)
    show_rejected(console, rejected)
    print(visible(then("fit", "--model", "ItemKNN", "--data", out)))


def show_rejected(console: Console, rejected: pl.DataFrame) -> None:
    """Reasons with counts and the first line of each."""
    if not rejected.height:
        return
    reasons = rejected.group_by("file", "reason", maintain_order=True).agg(
        pl.len().alias("rows"), pl.col("line", "text").first()
    )
    table = Table(title="rejected rows", title_justify="left", box=None)
    for column in ("file", "reason", "rows", "first line", "text"):
        table.add_column(column, overflow="fold", max_width=60)
    for file, reason, rows, line, text in reasons.sort("rows", descending=True).head(ROWS).iter_rows():
        table.add_row(plain(file), plain(reason), f"{rows:,}", f"{line:,}", plain(text, 60))
    console.print(table)


def show_split(folder: Path, out: Path, record: SplitRecord) -> None:
    """Rows per part, and what else a reader of numbers should know; and the command that uses the split."""
    print(visible(f"{out}\n{record.spec.strategy}, digest {record.parts_digest}"))
    table = Table(box=None)
    table.add_column("part")
    table.add_column("count", justify="right")
    for name, count in record.counts.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    Console().print(table)
    print(visible(then("fit", "--model", "ItemKNN", "--data", folder, "--split", out)))


def show_findings(path: Path, findings: list[Finding], typed: str = "") -> None:
    """One line per check; problems are counted at the end, and raised as one DataError.

    Args:
        typed: the options of the reader, as they were typed, for the command that comes next.
    """
    console = Console()
    marks = {"good": ("ok     ", "green"), "note": ("note   ", "cyan"), "bad": ("problem", "red")}
    for finding in findings:
        console.print(Text.assemble(marks[finding.state], " ", plain(finding.text, SENTENCE)))
    bad = [finding for finding in findings if finding.state == "bad"]
    if bad:
        raise DataError(
            f"{path}: {len(bad)} problem{'s' if len(bad) > 1 else ''} found, "
            f"the first: {plain(bad[0].text, SENTENCE)}"
        )
    prepared = (path / CARD).is_file()
    fit = ("fit", "--model", "ItemKNN", "--data", path)
    print(
        visible(
            then(*fit) if prepared else f"{then('data', 'prepare', path)} {typed}".rstrip() + " --out DIR"
        )
    )


def show_list() -> None:
    """Readers and known sets."""
    from .public_datasets import KNOWN
    from .reader_options import readers

    console = Console()
    table = Table(title="readers", title_justify="left", box=None)
    for column in ("name", "reads"):
        table.add_column(column)
    for name, reader in readers().items():
        table.add_row(name, plain((reader.__doc__ or "").strip().splitlines()[0], 200))
    console.print(table)
    console.print("known sets (--download NAME), by licence")
    for licence in dict.fromkeys(known.licence for known in KNOWN.values()):
        console.print(plain(f"  {licence}", SENTENCE))
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 4))
        for name, known in KNOWN.items():
            if known.licence == licence:
                table.add_row(name, known.reader, "login needed" if known.manual else "")
        console.print(table)
    print(then("data", "prepare", "auto", "--download", "ml-latest-small", "--out", "data/ml-latest-small"))
