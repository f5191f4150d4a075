"""A progress bar on stderr while a terminal looks on, and nothing otherwise."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress:
    """Shows how many of `total` are done and how many of those failed; gone when it ends.

    Args:
        what: the word before the bar; none = no bar.
        total: how many there are.
        done: how many were done before.
    """

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._failed = 0
        if what and sys.stderr.isatty():
            self._bar, self._task = _bar(what, total, done)

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, done: int, failed: int) -> None:
        """So many more are done, and so many of those failed."""
        self._failed += failed
        if self._bar and self._task is not None:
            self._bar.update(
                self._task, advance=done, failed=f"{self._failed:,} failed" if self._failed else ""
            )


def _bar(what: str, total: int, done: int) -> tuple[Bar, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )  # fmt: skip
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    return bar, bar.add_task(what, total=total, completed=done, failed="")
