"""When training ends before its last epoch."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch.callbacks import EarlyStopping

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
