"""Perplexity: exp of the mean negative log-probability over the tokens of all texts, padding left out."""

from __future__ import annotations

import numpy as np
from recloom.metrics import Measured, Texts


def perplexity(texts: Texts, n: int) -> Measured:
    """Negative log-probabilities of the tokens; a text without one counts as undefined."""
    assert texts.log_probs is not None
    lengths = np.array([len(row) for row in texts.log_probs], np.int64)
    values = -np.array([value for row in texts.log_probs for value in row], np.float64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return Measured(values=values, rows=rows, method={"tokeniser": texts.reading.log_probs_of})
