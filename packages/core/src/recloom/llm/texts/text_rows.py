"""Training rows that are texts and no items, tokenised once: what `Recommender.training_rows` may return."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ...batch import Batch
from ...errors import RecloomError
from .token_units import Units, gather_units, padded_rows
from .tokens import ANSWER, TokenBatch, TokenTable, fast, pad_of, special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class TextRows:
    """Instructions with answers that are texts and no items, such as TALLRec's or Alpaca's, tokenised once.

    Args:
        prompts: what is given.
        answers: what is to be said, one for each prompt.
        tokenizer: its begin mark is set before a prompt, its end mark behind an answer.
        side: whether an answer follows in the same sequence, or is the decoder's.
        max_tokens: longer rows are left out, counted in `dropped`, and warned of: no instruction or answer is cut.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
        *,
        side: Literal["sequence", "decoder"] = "sequence",
        max_tokens: int | None = None,
    ) -> None:
        fast(tokenizer)
        if len(prompts) != len(answers):
            raise RecloomError(f"each prompt needs an answer; found {len(prompts):,} and {len(answers):,}")
        self.side, self.pad = side, pad_of(tokenizer)
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        before, behind = special_tokens(tokenizer)
        if side == "decoder":
            given = [row + behind for row in _plain(tokenizer, prompts)[0]]
            said = [row + end for row in _plain(tokenizer, answers)[0]]
        else:
            whole = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
            tokens, stops = _plain(tokenizer, whole)
            cut = [
                sum(stop <= len(prompt) for stop in row) for row, prompt in zip(stops, prompts, strict=True)
            ]
            given = [row[:at] for row, at in zip(tokens, cut, strict=True)]
            said = [row[at:] + end for row, at in zip(tokens, cut, strict=True)]
        given = [before + row for row in given]
        room = max_tokens if max_tokens is not None else float("inf")
        size = [
            len(one) + (len(other) if side == "sequence" else 0)
            for one, other in zip(given, said, strict=True)
        ]
        kept = [at for at, each in enumerate(size) if each <= room]
        self.dropped = len(prompts) - len(kept)
        if self.dropped:
            warnings.warn(
                f"{self.dropped:,} of {len(prompts):,} rows have more than {max_tokens} tokens and are left out",
                stacklevel=2,
            )
        self.prompts = TokenTable.of_rows([given[at] for at in kept])
        self.answers = TokenTable.of_rows([said[at] for at in kept])

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: Tensor) -> Batch:
        """The given (R,) rows as `text` of a batch without users or items."""
        return Batch.of(torch.zeros(len(rows), 1, dtype=torch.long), text=self.tokens(rows))

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Every row once, in random order."""
        return torch.randperm(len(self), generator=generator)

    def tokens(self, rows: Tensor) -> TokenBatch:
        """The given (R,) rows, padded on the left."""
        tables = [self.prompts, self.answers]
        both = torch.stack([rows, rows], 1)  # (R, 2)
        shown = torch.ones_like(both, dtype=torch.bool)
        shown[:, 1] = self.side == "sequence"
        batch, ends = gather_units(
            tables, Units(both, shown, [0, 1], [0, ANSWER], torch.zeros_like(both)), self.pad
        )
        batch.answer = ends[:, 0]
        if self.side == "decoder":
            batch.target, batch.target_mask = padded_rows(self.answers, rows, self.pad)
        return batch


def _plain(tokenizer: Any, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens of texts without marks, and the character behind each token."""
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    return found["input_ids"], [[stop for _, stop in row] for row in found["offset_mapping"]]
