"""What a run and its vectors were made from, so that nothing held out is learnt from.

The metadata of a vector file say which rows its texts or its graph were made from: `recloom profile` and `recloom
summarize` write of which split they were shown the training part, `recloom embed` hands it on, and `recloom graph
embed` writes which rows are edges. A file that says nothing is taken as it is.

A click model learns from all training rows but the first of each user, which LLM knowledge may be built from (KAR, Xi
et al., RecSys 2024: so no target was ever part of a text).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .columns import codes_digest

if TYPE_CHECKING:
    from torch import Tensor

    from .batches.module import RecDataModule

ORIGIN = b"recloom.texts"
"""The key of a vector file's metadata: texts, columns, and of histories data_hash, split_hash and first; graph."""
ENCODER = b"recloom.encoder"
"""Another key: class and options of the encoder that made the vectors, as JSON."""
SAME = "with the split of this run: its --data.split.NAME is --split.NAME there."


def provenance_of(path: str | Path) -> dict[str, Any]:
    """What the file says of its texts; nothing where it does not say."""
    import pyarrow.parquet as pq

    found = (pq.read_metadata(path).metadata or {}).get(ORIGIN)
    return dict(json.loads(found)) if found else {}


def encoder_of(path: str | Path) -> str:
    """The encoder that made the vectors, as JSON; empty where the file does not say."""
    import pyarrow.parquet as pq

    facts: dict[bytes, bytes] = pq.read_metadata(path).metadata or {}
    return facts.get(ENCODER, b"").decode()


def check_encoder(path: str | Path, own: str) -> None:
    """Raise DataError where another encoder than `own` made the vectors; warn where either is not known ("")."""
    made_by = encoder_of(path)
    if made_by and own and made_by != own:
        raise DataError(
            f"the vectors of {path} were made by {made_by}, and those of this run by {own}: equal numbers mean other "
            "things. Make them with the encoder of the run's own."
        )
    if not (made_by and own):
        silent = "the file of the run's own vectors" if made_by else f"{path}"
        warnings.warn(
            f"{silent} does not say which encoder made its vectors, so that both are of one was not checked",
            stacklevel=2,
        )


def check_split(path: str | Path, data_hash: str, split_hash: str) -> None:
    """Raise DataError where the texts were written from training rows of another dataset or split."""
    made = provenance_of(path)
    wanted = {"data_hash": data_hash, "split_hash": split_hash}
    names = [name for name, value in wanted.items() if made.get(name, value) != value]
    words = " and ".join({"data_hash": "dataset", "split_hash": "split"}[name] for name in names)
    if names and made.get("graph"):
        raise DataError(
            f"the graph behind {path} was made from the training rows of another {words}, so the vectors may tell what "
            f"this run holds out. Make them again {SAME}"
        )
    if names:
        raise DataError(
            f"the texts behind {path} were written from the training rows of another {words}, so they may tell what "
            f"this run holds out. Write them again {SAME}"
        )


def check_first(path: str | Path, known_first: int | None) -> None:
    """Raise DataError where texts were written from interactions that a click model would be trained on."""
    made = provenance_of(path)
    first = made.get("first")
    if "split_hash" not in made or (first is not None and known_first is not None and first <= known_first):
        return
    of_graph = bool(made.get("graph"))
    if first is None and of_graph:
        raise DataError(
            f"the vectors of {path} were learnt from whole training histories, so they tell the labels that this "
            "model is to learn. Make them with `recloom graph embed --first 30`, and train with --data.known_first 30."
        )
    if first is None:
        raise DataError(
            f"the texts behind {path} were written from whole training histories, so they tell the labels that this "
            "model is to learn. Write them with `recloom profile --first 30`, and train with --data.known_first 30."
        )
    raise DataError(
        f"the {'edges' if of_graph else 'texts'} behind {path} were made from the first min((n + 1) // 2, {first}) "
        f"training interactions of each user, which must not be learnt from. Set --data.known_first {first}; "
        f"found {known_first}."
    )


def knowledge_prefix(lengths: Tensor, limit: int) -> Tensor:
    """(U,) how many first interactions LLM knowledge may be built from: min((n + 1) // 2, limit).

    Args:
        lengths: (U,) integers, n of each user.
        limit: 30 in KAR's code for ML-1M, 15 for Amazon-Books.
    """
    return ((lengths + 1) // 2).clamp(max=limit)


def identity(data: RecDataModule) -> dict[str, str]:
    """Digests that tell data, split and ids apart, and the codes of events and context where there are any."""
    found = {"dataset": data.card.data_hash(), "split": data.split_hash, "catalogue": data.catalog.digest()}
    events, context = data.catalog.events, data.catalog.context
    return found | ({"coding": codes_digest(events, context)} if events is not None or context else {})
