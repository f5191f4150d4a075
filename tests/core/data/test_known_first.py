"""How many first interactions knowledge is built from."""

from __future__ import annotations

import pytest
import torch
from recloom.data.provenance import knowledge_prefix


@pytest.mark.fact("A3.1")
def test_half_of_a_history_and_no_more_than_the_limit():
    lengths = torch.tensor([7, 20, 100, 0, 1, 2, 59, 60, 61])
    assert knowledge_prefix(lengths, 30).tolist() == [4, 10, 30, 0, 1, 1, 30, 30, 30]
    assert knowledge_prefix(lengths, 15).tolist() == [4, 10, 15, 0, 1, 1, 15, 15, 15]
    assert knowledge_prefix(lengths, 30).dtype == torch.int64
