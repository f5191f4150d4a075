"""The bar on a terminal while a run is trained or measured: one line, never wider than the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from lightning.pytorch.callbacks import EarlyStopping, ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

NARROWEST = 4
"""Columns that the bar itself keeps at least."""


class TrainingBar(ProgressBar):
    """What is being done, how far it is, how long it will still take, and the metrics as far as they fit.

    It stands on the error stream and leaves nothing behind; where that is no terminal, there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: Progress | None = None
        self._enabled, self._task, self._epoch = True, TaskID(0), ("", 0.0)

    def disable(self) -> None:
        """Called by Lightning in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def begin(self, what: str, total: float, done: int = 0) -> None:
        """From now on so many batches of `what` are counted."""
        console = Console(stderr=True)
        if not (self._enabled and (console.is_terminal or console.is_jupyter)):
            return
        if self.bar is None:
            self.bar = Progress(*columns(), console=console, transient=True, expand=True)
            self._task = self.bar.add_task(what, total=None, metrics="")
            self.bar.start()
        self.bar.reset(
            self._task, total=total if math.isfinite(total) else None, completed=done, description=what
        )

    def count(self, done: int) -> None:
        """So many batches are done."""
        if self.bar is not None:
            self.bar.update(self._task, completed=done)

    def tell(self, metrics: Mapping[str, Any]) -> None:
        """Show these metrics from now on."""
        if self.bar is not None:
            told = "  ".join(f"{name} {float(value):.4f}" for name, value in metrics.items())
            self.bar.update(self._task, metrics=told)

    def stop(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    # -- what Lightning calls -------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        last = "" if trainer.max_epochs in (None, -1) else f" of {trainer.max_epochs}"
        self._epoch = (f"epoch {trainer.current_epoch + 1}{last}", self.total_train_batches)
        self.begin(*self._epoch)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.count(batch_idx + 1)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self.begin("trying validation" if trainer.sanity_checking else "validating", sum(batches))

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.count(batch_idx + 1)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
            self.begin(*self._epoch, done)
            self.tell(trainer.progress_bar_metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.tell(trainer.progress_bar_metrics)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self.begin("testing", sum(trainer.num_test_batches))

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.count(batch_idx + 1)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self.begin("ranking", sum(trainer.num_predict_batches))

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.count(batch_idx + 1)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.stop()


class Told(ProgressColumn):
    """The metrics on one line; a table cuts first what it may wrap, so its column may be wrapped and its text not."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["metrics"], no_wrap=True, overflow="ellipsis")


def columns() -> tuple[ProgressColumn, ...]:
    """Description, bar, count, time left and metrics; where there is little room, the end of the metrics goes."""
    whole = [Column(no_wrap=True) for _ in range(3)]
    return (
        TextColumn("{task.description}", markup=False, table_column=whole[0]),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=NARROWEST)),
        MofNCompleteColumn(table_column=whole[1]),
        TimeRemainingColumn(compact=True, table_column=whole[2]),
        Told(),
    )


NEVER = 10**9


class EarlyStop(EarlyStopping):
    """Ends training when validation no longer improves.

    Args:
        monitor: what is watched; where it is not among the metrics, the first of these is.
        mode: whether more (`max`) or less (`min`) is better.
        patience: epochs without an improvement after which training ends; null = never.
        min_delta: what counts as an improvement.
    """

    def __init__(
        self,
        monitor: str = "val/ndcg@10",
        mode: Literal["max", "min"] = "max",
        patience: int | None = 10,
        min_delta: float = 0.0,
    ) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            patience=NEVER if patience is None else patience,
            min_delta=min_delta,
            strict=False,
        )
