"""One progress bar for long work: on stderr while that is a terminal, and nothing otherwise."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn, TaskID


class Progress:
    """Show how many of `total` are done and how many of those failed; used as a context, gone when it ends.

    Args:
        what: the word before the bar; none = no bar.
        total: how many there are; None = that is not known.
        done: how many were done before.
        of_bytes: whether bytes are counted: shown in KB, MB and so on, with their rate.
    """

    def __init__(self, what: str, total: int | None, done: int = 0, *, of_bytes: bool = False) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._failed = 0
        if what and sys.stderr.isatty():
            self._bar, self._task = _bar(what, total, done, of_bytes)

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, done: int, failed: int = 0) -> None:
        """So many more are done, and so many of those failed."""
        self._failed += failed
        if self._bar and self._task is not None:
            self._bar.update(
                self._task, advance=done, failed=f"{self._failed:,} failed" if self._failed else ""
            )


def _bar(what: str, total: int | None, done: int, of_bytes: bool) -> tuple[Bar, TaskID]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    amount: tuple[ProgressColumn, ...]
    amount = (
        (DownloadColumn(), TransferSpeedColumn())
        if of_bytes
        else (MofNCompleteColumn(), TimeRemainingColumn())
    )
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), *amount, TextColumn("{task.fields[failed]}"),
    )  # fmt: skip
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    return bar, bar.add_task(what, total=total, completed=done, failed="")
