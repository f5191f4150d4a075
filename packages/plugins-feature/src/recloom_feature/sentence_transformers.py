"""Text vectors from a local model of the sentence-transformers library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from recloom.errors import RecloomError
from recloom.language import TextEncoder

if TYPE_CHECKING:
    from recloom.language import Vectors
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class SentenceTransformers(TextEncoder):
    """Vectors of length 1 from a sentence-transformers model, which is loaded on first use.

    Args:
        model: name of a model, or a folder that holds one; a folder needs no network.
        batch_size: texts encoded at once.
        device: such as `cpu` or `cuda`; None = whatever there is.
    """

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    batch_size: int = 64
    device: str | None = None

    normalized = True

    def encode(self, texts: Sequence[str]) -> Vectors:
        filled = [row for row, text in enumerate(texts) if text.strip()]
        vectors = np.zeros((len(texts), self.dim), np.float32)
        if filled:  # an empty text would get a vector of its own, and look like every other empty text
            vectors[filled] = self._loaded.encode(
                [texts[row] for row in filled],
                batch_size=self.batch_size,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        return vectors

    @cached_property
    def dim(self) -> int:  # type: ignore[override]
        return int(self._loaded.get_embedding_dimension())

    @cached_property
    def max_tokens(self) -> int | None:  # type: ignore[override]
        length = self._loaded.max_seq_length
        return None if length is None else int(length)

    @cached_property
    def _loaded(self) -> SentenceTransformer:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise RecloomError(
                "SentenceTransformers needs the sentence-transformers library: "
                "pip install 'recloom-feature[sentence-transformers]'. HashingNgrams works without it."
            ) from error
        try:
            return SentenceTransformer(self.model, device=self.device)
        except (OSError, ValueError) as error:
            raise RecloomError(
                f"no sentence-transformers model could be loaded from {self.model!r} ({error}). "
                "Give the name of a model that can be downloaded, or a folder that holds one."
            ) from error
