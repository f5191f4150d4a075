"""Layers that several recommenders share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .catalogue_trie import CatalogueTrie as CatalogueTrie
    from .constrained_beam import beam_search as beam_search
    from .constrained_beam import path_log_probs as path_log_probs
    from .constrained_beam import sample_paths as sample_paths
    from .cross_entropy import BLOCK as BLOCK
    from .cross_entropy import linear_cross_entropy as linear_cross_entropy
    from .item_embedding import ItemEmbedding as ItemEmbedding
    from .item_embedding import ItemInput as ItemInput
    from .transformer import ByteDropout as ByteDropout
    from .transformer import Positions as Positions
    from .transformer import TransformerBlock as TransformerBlock
    from .transformer import align_left as align_left
    from .transformer import last_only as last_only
    from .transformer import shift_left as shift_left

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "catalogue_trie": "CatalogueTrie",
        "constrained_beam": "beam_search sample_paths path_log_probs",
        "cross_entropy": "BLOCK linear_cross_entropy",
        "item_embedding": "ItemEmbedding ItemInput",
        "transformer": "ByteDropout Positions TransformerBlock align_left last_only shift_left",
    },
)
