"""Node embeddings from a graph alone: DeepWalk, node2vec and link prediction; `recloom graph embed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .edge_split import EdgeSplit as EdgeSplit
    from .edge_split import split_edges as split_edges
    from .link_prediction import LinkEmbedding as LinkEmbedding
    from .skip_gram import SkipGram as SkipGram
    from .training import train as train
    from .walks import Walker as Walker

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "edge_split": "EdgeSplit split_edges",
        "link_prediction": "LinkEmbedding",
        "skip_gram": "SkipGram",
        "training": "train",
        "walks": "Walker",
    },
)
