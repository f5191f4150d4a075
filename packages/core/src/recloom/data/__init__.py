"""Datasets without torch: the card, the readers, the split; and with it: catalogue and interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .card import read_card as read_card
    from .card import read_unchanged as read_unchanged
    from .catalog import VECTOR as VECTOR
    from .catalog import Catalog as Catalog
    from .interactions import Interactions as Interactions
    from .interactions import ranges as ranges
    from .interactions import repeated as repeated
    from .provenance import ENCODER as ENCODER
    from .provenance import ORIGIN as ORIGIN
    from .provenance import knowledge_prefix as knowledge_prefix
    from .split import PART as PART
    from .split import assign as assign
    from .split import parts_of as parts_of
    from .split import split_digest as split_digest
    from .split import split_record as split_record

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "card": "read_card read_unchanged",
        "catalog": "Catalog VECTOR",
        "interactions": "Interactions ranges repeated",
        "provenance": "ENCODER ORIGIN knowledge_prefix",
        "split": "PART assign parts_of split_digest split_record",
    },
)
