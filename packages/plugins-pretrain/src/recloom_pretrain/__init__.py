"""Sequential and pre-trained recommenders; hook implementations only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from recloom.plugins import hookimpl

if TYPE_CHECKING:
    from recloom.recommender import Recommender


@hookimpl
def register_models() -> Iterable[type[Recommender]]:
    from .sequence.bert4rec import BERT4Rec
    from .sequence.sasrec import SASRec

    return [SASRec, BERT4Rec]
