"""KAR's rule: how many first interactions knowledge may be built from."""

from __future__ import annotations

import torch
from recloom.data.known_first import known_first


def test_a3_1_seven_give_four_twenty_ten_and_a_hundred_the_limit():
    assert known_first(torch.tensor([7, 20, 100, 0, 1, 59, 60, 61]), 30).tolist() == [
        4,
        10,
        30,
        0,
        1,
        30,
        30,
        30,
    ]
    assert known_first(torch.tensor([7, 100]), 0).tolist() == [0, 0]
