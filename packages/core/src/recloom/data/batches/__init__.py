"""From a split dataset to batches: training rows, requests, candidates, and the data module that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...plugins import lazy_names

if TYPE_CHECKING:
    from .module import RecDataModule as RecDataModule
    from .requests import ImpressionRequests as ImpressionRequests
    from .requests import LabelledRequests as LabelledRequests
    from .requests import TargetRequests as TargetRequests
    from .sampler import BatchSampler as BatchSampler
    from .training_rows import PairRows as PairRows
    from .training_rows import PointwiseRows as PointwiseRows
    from .training_rows import Rows as Rows
    from .training_rows import SequenceRows as SequenceRows

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "module": "RecDataModule",
        "requests": "ImpressionRequests LabelledRequests TargetRequests",
        "sampler": "BatchSampler",
        "training_rows": "PairRows PointwiseRows Rows SequenceRows",
    },
)
