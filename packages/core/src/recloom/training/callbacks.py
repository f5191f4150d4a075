"""Lightning's progress bar as every run shows it, early stopping, and the clock of a fit."""

from __future__ import annotations

import os
import time
from typing import Any, Literal

from lightning.pytorch.callbacks import Callback, EarlyStopping, RichProgressBar
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.callbacks.progress.rich_progress import CustomBarColumn, RichProgressBarTheme
from rich.console import Console
from rich.progress import MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from ..errors import at_least


class TrainingBar(RichProgressBar):
    """Lightning's bar on the error stream: what is done, how far it is, how long it will take, and the metrics.

    It leaves nothing behind; where the error stream is no terminal, there is none.
    """

    def __init__(self) -> None:
        theme = RichProgressBarTheme(metrics_format=".4f", metrics_text_delimiter="  ")
        super().__init__(refresh_rate=10, theme=theme, console_kwargs={"stderr": True})
        console = Console(stderr=True)
        if not (console.is_terminal or console.is_jupyter):
            self.disable()

    def configure_columns(self, trainer: Any) -> list[ProgressColumn]:
        """Description, bar, count and time left; the metrics come after them."""
        return [
            TextColumn("{task.description}", markup=False),
            CustomBarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        ]

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """Those that a module logs for the bar, without Lightning's number of a version."""
        found: dict[str, Any] = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in found.items() if name != "v_num"}

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._leave_nothing()
        super().teardown(trainer, pl_module, stage)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._leave_nothing()
        super().on_exception(trainer, pl_module, exception)

    def _leave_nothing(self) -> None:
        if self.progress is not None:
            self.progress.live.transient = True


NEVER = 10**9
PATIENCE_STEPS = 500
"""Small data have epochs of a few steps. On ml-latest-small, where they have 6, SASRec's validation NDCG@10 stands at
.023 for 13 validations, or 78 steps, and is .035 nine validations later; rests of 140 steps were seen elsewhere."""


class EarlyStop(EarlyStopping):
    """Ends training when validation no longer improves.

    Args:
        monitor: what is watched; where it is not among the metrics, the first of these is.
        mode: whether more (`max`) or less (`min`) is better.
        patience: validations without an improvement after which training ends; null = never.
        patience_steps: optimiser steps without an improvement that must have passed as well.
        min_delta: what counts as an improvement.
    """

    def __init__(
        self,
        monitor: str = "val/ndcg@10",
        mode: Literal["max", "min"] = "max",
        patience: int | None = 10,
        patience_steps: int = PATIENCE_STEPS,
        min_delta: float = 0.0,
    ) -> None:
        at_least(0, patience_steps=patience_steps)
        super().__init__(
            monitor=monitor,
            mode=mode,
            patience=NEVER if patience is None else patience,
            min_delta=min_delta,
            strict=False,
        )
        self.patience_steps = patience_steps
        self._best_step, self._step = 0, 0

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best_step": self._best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._best_step = state_dict.get("best_step", 0)

    def _run_early_stopping_check(self, trainer: Any) -> None:
        self._step = trainer.global_step
        super()._run_early_stopping_check(trainer)

    def _evaluate_stopping_criteria(self, current: Tensor) -> tuple[bool, str | None]:
        stop, reason = super()._evaluate_stopping_criteria(current)
        if self.wait_count == 0 and not stop:  # an improvement
            self._best_step = self._step
        if (
            self.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED
            and self.waited_steps < self.patience_steps
        ):
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
            return False, None
        return stop, reason

    @property
    def waited_steps(self) -> int:
        """Optimiser steps since the last improvement."""
        return self._step - self._best_step

    def why(self) -> str:
        """Which limit ended training, in words."""
        if self.stopping_reason is EarlyStoppingReason.NON_FINITE_METRIC:
            return f"{self.monitor} was not finite"
        better = "risen" if self.mode == "max" else "fallen"
        return f"{self.monitor} had not {better} for {self.wait_count} validations and {self.waited_steps:,} steps"


class FitClock(Callback):
    """What a fit costs from the making of its trainer on; one that goes on from a checkpoint counts on from there.

    CPU seconds are those of this process and of the helpers that it has waited for, such as workers of a loader.
    """

    def __init__(self) -> None:
        self._before = (0.0, 0.0)
        self._begun = self._now()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = (state_dict["seconds"], state_dict["cpu_seconds"])

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self._before[0] + self._now()[0] - self._begun[0]

    @property
    def cpu_seconds(self) -> float:
        """CPU time."""
        return self._before[1] + self._now()[1] - self._begun[1]

    @staticmethod
    def _now() -> tuple[float, float]:
        used = os.times()
        return time.monotonic(), used.user + used.system + used.children_user + used.children_system


def clock_of(trainer: Any) -> FitClock:
    """The clock that every fit of the command line has."""
    return next(one for one in trainer.callbacks if isinstance(one, FitClock))
