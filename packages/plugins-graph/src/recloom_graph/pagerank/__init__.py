"""PageRank and personalised PageRank, as functions, as a recommender and as `recloom graph pagerank`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .push import forward_push as forward_push
    from .ranks import pagerank as pagerank
    from .ranks import personalised_pagerank as personalised_pagerank
    from .recommender import PersonalizedPageRank as PersonalizedPageRank

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "push": "forward_push",
        "ranks": "pagerank personalised_pagerank",
        "recommender": "PersonalizedPageRank",
    },
)
