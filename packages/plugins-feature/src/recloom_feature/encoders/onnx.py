"""OnnxTextEncoder: text vectors from an ONNX file, without torch.

It needs less memory, and with int8 weights is about twice as fast on a CPU.

`recloom encoder export` writes the folder. A folder of another origin does too, if it holds `model.onnx`, which
gives token vectors (B, T, dim) from `input_ids` and `attention_mask`, and `tokenizer.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from recloom.errors import RecloomError, at_least
from recloom.io import sha256
from recloom.llm import TextEncoder, folder_contents

from .inputs import AT_ONCE, token_batches

if TYPE_CHECKING:
    from recloom.llm import Vectors

MODEL, TOKENIZER, CARD = "model.onnx", "tokenizer.json", "encoder.json"
INSTALL = "pip install 'recloom-feature[onnx]'"


class Cosine(BaseModel):
    """How near the vectors are to those of the float model, over `texts` texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    min: float
    texts: int


class EncoderCard(BaseModel):
    """`encoder.json` of an exported encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = ""
    dim: int
    max_tokens: int = 512
    pooling: Literal["mean", "cls"] = "mean"
    weights: Literal["float32", "int8"] = "float32"
    cosine: Cosine | None = None
    sha256: str | None = None
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class OnnxTextEncoder(TextEncoder):
    """Vectors of length 1: the mean of the token vectors (or the first, as recorded in the folder), normalised.

    Args:
        folder: holds `model.onnx`, `tokenizer.json`, and `encoder.json` where `recloom encoder export` wrote it;
            without that the pooling is the mean, and 512 tokens are read.
        batch_tokens: tokens computed at once, padding included.
        threads: None = as many as onnxruntime likes.
    """

    folder: str
    batch_tokens: int = 512
    threads: int | None = None

    normalized = True
    without_effect: ClassVar[tuple[str, ...]] = ("batch_tokens", "threads")

    def __post_init__(self) -> None:
        at_least(1, batch_tokens=self.batch_tokens, threads=self.threads)

    @property
    def identity(self) -> dict[str, Any]:
        """The folder counts by its name and what it holds."""
        return super().identity | {"folder": folder_contents(self.folder)}

    def encode(self, texts: Sequence[str]) -> Vectors:
        filled = [row for row, text in enumerate(texts) if text.strip()]
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(filled), AT_ONCE):
            rows = filled[start : start + AT_ONCE]
            tokens = [each.ids for each in self._tokenizer.encode_batch([texts[row] for row in rows])]
            for chosen, found in self._encoded(tokens):
                vectors[[rows[at] for at in chosen]] = found
        return vectors

    @cached_property
    def dim(self) -> int:  # type: ignore[override]
        return self.card.dim

    @cached_property
    def max_tokens(self) -> int | None:  # type: ignore[override]
        return self.card.max_tokens

    @cached_property
    def card(self) -> EncoderCard:
        """`encoder.json`; where there is none, what the model itself shows."""
        path = Path(self.folder) / CARD
        if not path.is_file():
            return EncoderCard(dim=int(self._session.get_outputs()[0].shape[-1]))
        try:
            return EncoderCard.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise RecloomError(f"{path} is not what `recloom encoder export` writes: {error}") from error

    def _encoded(self, tokens: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Vectors]]:
        """Batches of places in `tokens`, each with their (B, dim) vectors."""
        for chosen in token_batches([*map(len, tokens)], self.batch_tokens):
            ids, mask = _padded([tokens[at] for at in chosen])
            known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (hidden, *_) = self._session.run(None, {name: known[name] for name in self._inputs})
            yield chosen, _unit(_pooled(hidden, mask, self.card.pooling))

    @cached_property
    def _inputs(self) -> list[str]:
        names = [port.name for port in self._session.get_inputs()]
        strange = set(names) - {"input_ids", "attention_mask", "token_type_ids"}
        if strange or len(self._session.get_outputs()[0].shape) != 3:
            raise RecloomError(
                f"{Path(self.folder) / MODEL} is no text encoder of this form: expected input_ids and attention_mask "
                f"to token vectors (B, T, dim); found {', '.join(names)}"
            )
        return names

    @cached_property
    def _session(self) -> Any:
        path = Path(self.folder) / MODEL
        if not path.is_file():
            raise RecloomError(
                f"{path} does not exist. Write it with `recloom encoder export MODEL --out DIR`."
            )
        try:
            import onnxruntime
        except ImportError as error:
            raise RecloomError(f"OnnxTextEncoder needs onnxruntime: {INSTALL}") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        self._check(path)
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def _check(self, path: Path) -> None:
        """The card belongs to this file."""
        wanted = self.card.sha256 if (Path(self.folder) / CARD).is_file() else None
        if wanted is not None and sha256(path) != wanted:
            raise RecloomError(f"{path} is not the file that {CARD} beside it describes. Export it again.")

    @cached_property
    def _tokenizer(self) -> Any:
        path = Path(self.folder) / TOKENIZER
        if not path.is_file():
            raise RecloomError(f"{path} does not exist; it belongs beside {MODEL}")
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise RecloomError(f"OnnxTextEncoder needs the tokenizers library: {INSTALL}") from error
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.card.max_tokens)
        return tokenizer


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """(B, T) tokens and mask, both int64."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    mask = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.zeros(mask.shape, np.int64)
    tokens[mask] = np.concatenate(rows)
    return tokens, mask.astype(np.int64)


def _pooled(hidden: Any, mask: Any, pooling: str) -> Any:
    """(B, dim) from (B, T, dim), up to a factor."""
    if pooling == "cls":
        return hidden[:, 0]
    return (mask[:, None, :].astype(np.float32) @ hidden)[:, 0]


def _unit(vectors: Any) -> Vectors:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
    return found
