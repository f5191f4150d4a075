"""Lightning callbacks of the SASRec benchmarks: CPU time of every epoch, and a CPU budget."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import lightning as L


class Clock(L.Callback):
    """CPU seconds from the start of an epoch's first batch to its end."""

    epochs: ClassVar[list[float]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.epochs.append(-time.process_time())

    def on_train_epoch_end(self, *_: Any) -> None:
        self.epochs[-1] += time.process_time()


class Budget(L.Callback):
    """Stops a fit when the process has used so many CPU seconds since training began."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_start(self, *_: Any) -> None:
        self.begun = time.process_time()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if time.process_time() - self.begun > self.seconds:
            trainer.should_stop = True
