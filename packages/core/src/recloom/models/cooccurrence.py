"""Item co-occurrence counts (users who chose both), in blocks of items so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_matrix

from ..data.interactions import Interactions

BLOCK = 1 << 22
"""Pairs of items held at once (8 bytes each, and several copies while they are sorted)."""


def cooccurrence_counts(interactions: Interactions) -> Iterator[tuple[slice, csr_matrix]]:
    """Yield blocks of rows of X^T X, X being the binary (users, num_items + 1) matrix.

    Each block is the range of items and a float32 (items, num_items + 1) matrix; its diagonal holds the
    number of users of each item. Ratings and repetitions count for nothing. Row and column 0 are empty.
    """
    users, items = (index.numpy() for index in interactions.pairs())
    shape = (interactions.num_users + 1, interactions.num_items + 1)
    matrix = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    of_item = matrix.T.tocsr()  # (V + 1, U)
    lengths = np.diff(matrix.indptr).astype(np.float32)
    work = np.minimum(of_item @ lengths, shape[1])  # at most so many pairs in each row
    before = np.concatenate([[0], np.cumsum(work, dtype=np.float64)])
    start = 0
    while start < shape[1]:
        stop = max(start + 1, int(np.searchsorted(before, before[start] + BLOCK, "right")) - 1)
        yield slice(start, stop), of_item[start:stop] @ matrix
        start = stop
