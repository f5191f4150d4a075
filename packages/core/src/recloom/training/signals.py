"""When training ends before its last epoch: nothing improves any more, or somebody says so."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, Literal

from lightning.pytorch.callbacks import EarlyStopping

from .errors import Terminated

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


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM as Terminated, leave a fit of Lightning, which would turn them into an exit of its own.

    It also stops listening for Ctrl-C, which is undone.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM stop what runs in this block at once, as Ctrl-C does: by Terminated, between two calls of torch.

    Lightning itself waits for the end of a batch, which may take minutes where a click model ranks a catalogue. A
    program that has a handler of its own keeps it; a thread beside the main one gets no signals.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is being stopped; a second one must not stop that
    raise Terminated
