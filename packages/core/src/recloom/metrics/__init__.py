"""Metrics of rankings and of texts, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .accumulator import MetricAccumulator as MetricAccumulator
    from .functional import MISSED as MISSED
    from .functional import auc as auc
    from .functional import first_k as first_k
    from .functional import hit as hit
    from .functional import ndcg as ndcg
    from .metric import ItemFacts as ItemFacts
    from .metric import Metric as Metric
    from .metric import core_metrics as core_metrics
    from .metric import parse_metric as parse_metric
    from .segments import item_segments as item_segments
    from .text import GIVEN_BY as GIVEN_BY
    from .text import BleuTokenizer as BleuTokenizer
    from .text import Column as Column
    from .text import Measured as Measured
    from .text import Reading as Reading
    from .text import Smoothing as Smoothing
    from .text import TextMetric as TextMetric
    from .text import Texts as Texts
    from .text import Words as Words
    from .text import parse_text_metric as parse_text_metric
    from .text import text_names as text_names


__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "accumulator": "MetricAccumulator",
        "functional": "MISSED auc first_k hit ndcg",
        "metric": "ItemFacts Metric core_metrics parse_metric",
        "segments": "item_segments",
        "text": "BleuTokenizer Column GIVEN_BY Measured Reading Smoothing TextMetric Texts Words parse_text_metric "
        "text_names",
    },
)
