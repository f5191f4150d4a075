"""Where weights of a recommender come from that are in no checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class Pretrained:
    """Weights of a recommender that come from a folder: in no checkpoint, and checked when one is loaded.

    Below the prefix, a checkpoint keeps the parameters that require gradients, since training changes them (all of
    them where everything is trained, the adapter alone with LoRA), and what `kept` names. Everything else, buffers
    included, is read from the folder by the recommender's constructor. A parameter that training changed and froze
    again must be named in `kept`.

    Attributes:
        folder: where the weights lie.
        fingerprint: of the files in it (`recloom.llm.fingerprint`); another one is refused.
        inputs: (B, L) int64 tokens, or another small tensor, that `probe` reads: a stored batch.
        probe: from `inputs` to the part's outputs, such as logits of a few tokens, without gradients. A checkpoint
            holds the outputs; loading refuses others, within a tolerance for their dtype.
        kept: beginnings of names below the prefix that a checkpoint keeps whether or not they require gradients.
    """

    folder: Path
    fingerprint: str
    inputs: Tensor
    probe: Callable[[Tensor], Tensor]
    kept: tuple[str, ...] = ()
