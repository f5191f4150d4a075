"""SentenceTransformers: text vectors from a local model of the sentence-transformers library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from recloom.errors import RecloomError, at_least
from recloom.llm import TextEncoder, folder_contents

from .inputs import AT_ONCE, MODULES, check_model_folder, expected, token_batches

if TYPE_CHECKING:
    from recloom.llm import Vectors
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class SentenceTransformers(TextEncoder):
    """Vectors of length 1 from a sentence-transformers model, which is loaded on first use.

    Args:
        model: name of a model, or a folder that holds one; a folder needs no network.
        device: such as `cpu` or `cuda`; None = whatever there is.
        batch_tokens: tokens computed at once, padding included; None = what suits the device. Texts of like
            length go together.
    """

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    device: str | None = None
    batch_tokens: int | None = None

    normalized = True
    without_effect: ClassVar[tuple[str, ...]] = ("batch_tokens", "device")

    def __post_init__(self) -> None:
        at_least(1, batch_tokens=self.batch_tokens)

    @property
    def identity(self) -> dict[str, Any]:
        """A folder counts by its name and what it holds."""
        return super().identity | {"model": folder_contents(self.model)}

    def encode(self, texts: Sequence[str]) -> Vectors:
        # an empty text would get a vector of its own, and look like every other empty text
        filled = [row for row, text in enumerate(texts) if text.strip()]
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(filled), AT_ONCE):
            rows = filled[start : start + AT_ONCE]
            for chosen in token_batches(self._lengths([texts[row] for row in rows]), self._budget):
                places = [rows[at] for at in chosen]
                vectors[places] = self._loaded.encode(
                    [texts[row] for row in places],
                    batch_size=len(places),
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
        return vectors

    def _lengths(self, texts: list[str]) -> list[int]:
        """Tokens of each text; a guess by its characters for a model whose tokeniser is of another kind."""
        tokenizer = self._loaded.tokenizer
        if not callable(tokenizer):
            return [len(text) // 4 + 1 for text in texts]
        found = tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"]
        return [*map(len, found)]

    @property
    def _budget(self) -> int:
        """On a CPU what fits its cache, which is faster than larger batches; elsewhere what keeps it busy."""
        return self.batch_tokens or (512 if self._loaded.device.type == "cpu" else 16_384)

    @cached_property
    def dim(self) -> int:  # type: ignore[override]
        size = self._loaded.get_embedding_dimension()
        if size is None:
            raise RecloomError(f"{self.model!r} reports no size of its vectors; expected a model of texts")
        return int(size)

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
        folder = Path(self.model)
        check_model_folder(folder)
        try:
            return SentenceTransformer(self.model, device=self.device)
        except (OSError, ValueError) as error:
            advice = "Give the name of a model that can be downloaded, or a folder that holds one."
            if folder.is_dir() and not (folder / MODULES).is_file():
                advice = expected(folder)
            raise RecloomError(
                f"no sentence-transformers model could be loaded from {self.model!r} ({error}). {advice}"
            ) from error
