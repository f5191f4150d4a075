"""What reaches a training run from outside, and what it says: Ctrl-C, SIGTERM, and the advice of Lightning.

`interruptible` and `stopped_by_sigterm` are contexts around a fit; `silence` leaves out advice about what Recloom does
on purpose.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from ..errors import Terminated

QUIET = (
    ".*does not have many workers.*",
    ".*configure_optimizers.*returned `None`.*",
    ".*Checkpoint directory.*exists.*",
    "LightningCLI's args parameter.*",
    ".*is smaller than the logging interval.*",
    ".*weights_only.*",
    ".*LeafSpec.*",
    ".*infer the `batch_size`.*",
    ".*Total length of `list` across ranks is zero.*",
)
"""Patterns of warnings that advise against what Recloom does on purpose."""


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


def silence() -> None:
    """Leave out Lightning's advice; its warnings about what users asked for stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in QUIET:
        warnings.filterwarnings("ignore", text)
    sys.stdout.flush()
