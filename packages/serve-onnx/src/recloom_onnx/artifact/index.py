"""An index over item vectors, by faiss: the best items of a large catalogue without scoring all of it.

The vectors lie in lists around centres found by k-means; a query is compared with those of the nearest lists. How
many are looked at is chosen by the share of the exact top-k that comes back, over a sample of queries.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from recloom.errors import RecloomError

from .ids import Array
from .manifest import IndexReport

K = 10
"""Of the recall that is asked for and measured."""
PER_LIST = 39
"""Vectors that a list should hold at least, for k-means to find a centre."""
SAMPLED = 64
"""Vectors for each list from which k-means finds the centres, at most."""
SEED = 0


def build_index(items: Array, queries: Array, recall: float) -> tuple[Any, IndexReport]:
    """An index over (N, d) float32 item vectors that finds so much of the exact top 10 for (Q, d) queries.

    Raises RecloomError where faiss is not installed, or the recall is no share.
    """
    faiss = faiss_library()
    if not 0 < recall <= 1:
        raise RecloomError(
            f"index_recall is a share of the exact top {K}, above 0 and at most 1; found {recall}"
        )
    count, dim = items.shape
    lists = max(1, min(int(4 * count**0.5), count // PER_LIST))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.max_points_per_centroid = SEED, SAMPLED
    index.train(items)
    index.add(items)
    exact, probed = min(K, count), lists if recall == 1 else 1
    wanted = faiss.knn(queries, items, exact, faiss.METRIC_INNER_PRODUCT)[1]
    while True:
        index.nprobe = probed
        found = recall_of(index.search(queries, exact)[1], wanted)
        if found >= recall or probed == lists:
            break
        probed = min(2 * probed, lists)
    return index, IndexReport(
        library=f"faiss {faiss.__version__}",
        lists=lists,
        probed=probed,
        recall=found,
        k=exact,
        queries=len(queries),
        asked=recall,
        ms_exact=_milliseconds(lambda one: faiss.knn(one, items, exact, faiss.METRIC_INNER_PRODUCT), queries),
        ms_index=_milliseconds(lambda one: index.search(one, exact), queries),
    )


def recall_of(found: Array, wanted: Array) -> float:
    """Mean share of the (Q, k) wanted indices that are among the (Q, k) found."""
    return float((wanted[:, :, None] == found[:, None, :]).any(2).mean())


def write(index: Any, path: Path) -> None:
    """To a file of faiss's own format."""
    faiss_library().write_index(index, str(path))


def read(path: Path, report: IndexReport) -> Any:
    """The index in a file, with as many lists looked at as the manifest says."""
    index = faiss_library().read_index(str(path))
    index.nprobe = report.probed
    index.make_direct_map()  # so that vectors are found by number
    return index


def faiss_library() -> Any:
    """faiss; RecloomError where it is not installed."""
    if find_spec("faiss") is None:
        raise RecloomError("an index needs faiss, which is not installed: pip install 'recloom-onnx[index]'")
    import faiss

    return faiss


def _milliseconds(search: Any, queries: Array) -> float:
    """Median time of one query at a time, of at most 100."""
    spent = []
    for row in range(min(100, len(queries))):
        start = time.perf_counter()
        search(queries[row : row + 1])
        spent.append(1000 * (time.perf_counter() - start))
    return round(float(np.median(spent)), 3)
