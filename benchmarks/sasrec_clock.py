"""A Lightning callback that keeps the CPU time of every training epoch, for `sasrec_speed.py`."""

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
