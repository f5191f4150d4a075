"""The one training loop, its checkpoints, callbacks and signals, and task modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .callbacks import TrainingBar as TrainingBar
    from .checkpoint import AtomicCheckpointIO as AtomicCheckpointIO
    from .checkpoint import read_checkpoint as read_checkpoint
    from .module import RecModule as RecModule
    from .ranking import mask_items as mask_items
    from .signals import interruptible as interruptible
    from .signals import silence as silence
    from .signals import stopped_by_sigterm as stopped_by_sigterm
    from .task import TaskData as TaskData
    from .task import TaskModule as TaskModule

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "callbacks": "TrainingBar",
        "checkpoint": "AtomicCheckpointIO read_checkpoint",
        "module": "RecModule",
        "ranking": "mask_items",
        "signals": "interruptible silence stopped_by_sigterm",
        "task": "TaskData TaskModule",
    },
)
