"""Texts that are tokenised once: tables of token ids, and batches gathered from them.

A `TokenTable` holds the tokens of many texts one after the other, with offsets; `TokenBatch` is what a model reads.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import RecloomError
from ...io import whole_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Layout = Literal["left", "right", "packed"]
ANSWER = -1
"""The slot of answer tokens in `TokenBatch.slot`."""
CHANNELS = 32
"""The bit of an entry at which its channels begin."""
SLOT_BITS, TABLE_BITS = 8, 6
"""Of the number that says what a unit is: its slot and its table, then its item."""
FORMAT = b"recloom tokens 1"
BLOCK = 4096
"""Texts tokenised in one call."""
BEFORE = {" ": "a:", "": "a\n"}
"""What stands before a text while it is tokenised, by its lead: a text is never tokenised out of context."""
AFTER = {"\n": "a", "": "\na"}
"""What stands behind it, by its tail."""


class UncutError(Exception):
    """A tokeniser joins the end of a piece of text with what stands beside it; the argument is the text."""


@dataclass(frozen=True)
class TokenTable:
    """Tokens of n texts, one after the other.

    Attributes:
        entries: (N,) int64, a token and, from bit CHANNELS on, its channels: twice the number of the field that it
            belongs to (0 = none), plus 1 where it starts a word, which is what white space divides.
        offsets: (n + 1,) int64; text i owns the entries `offsets[i]:offsets[i + 1]`.
    """

    entries: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def lengths(self) -> Tensor:
        """(n,) int64 tokens of each text."""
        return self.offsets.diff()

    def row(self, index: int) -> list[int]:
        """The tokens of one text."""
        entries = self.entries[self.offsets[index] : self.offsets[index + 1]]
        found: list[int] = (entries & (1 << CHANNELS) - 1).tolist()
        return found

    def first(self) -> Tensor:
        """(n,) int64 first token of each text, none of which is empty."""
        return self.entries[self.offsets[:-1]] & (1 << CHANNELS) - 1

    def to(self, device: torch.device | str) -> TokenTable:
        """The same on a device; in memory, where it was mapped from a file."""
        return TokenTable(self.entries.to(device), self.offsets.to(device))

    @classmethod
    def build(
        cls,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
        *,
        lead: Literal["", " "] = "",
        tail: Literal["", "\n"] = "",
        starts: Sequence[Sequence[int]] | None = None,
        cache: Path | None = None,
    ) -> TokenTable:
        """Tokenise texts as parts of a longer one.

        Args:
            texts: without white space at either end; an empty one has no tokens.
            lead: a blank that stands before each text and is part of its tokens; without it, a text begins a line.
            tail: a line break that is part of a text's tokens; without it, the next piece begins with the break.
            starts: for each text, the character at which each of its fields begins.
            cache: folder that keeps the table under a hash of texts, tokeniser and options; from there it is mapped.
                One that cannot be written keeps nothing.

        Raises UncutError where the tokens of a text are not a part of those of the text with its surroundings.
        """
        file = None
        if cache is not None:
            file = cache / f"{_digest(texts, tokenizer, lead, tail, starts)}.tokens.npy"
            if file.is_file():
                return cls._mapped(file)
        fast(tokenizer)
        made = [
            _tokenised(texts[part], tokenizer, lead, tail, None if starts is None else starts[part])
            for part in (slice(at, at + BLOCK) for at in range(0, len(texts), BLOCK))
        ]
        entries = np.concatenate([np.zeros(0, np.int64), *(part for part, _ in made)])
        lengths = np.concatenate([np.zeros(0, np.int64), *(part for _, part in made)])
        if file is None:
            return cls._of(entries, lengths)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as path, path.open("wb") as stream:
                np.save(stream, np.concatenate([[len(lengths)], lengths, entries]))
        except OSError:
            return cls._of(entries, lengths)
        return cls._mapped(file)

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[int]]) -> TokenTable:
        """A table of given tokens without fields or word starts."""
        entries = np.fromiter((token for row in rows for token in row), np.int64)
        return cls._of(entries, np.array([len(row) for row in rows], np.int64))

    @classmethod
    def _of(cls, entries: Any, lengths: Any) -> TokenTable:
        offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
        offsets[1:] = torch.from_numpy(np.cumsum(lengths))
        with warnings.catch_warnings():  # mapped arrays are read-only, and nothing here writes to them
            warnings.simplefilter("ignore", UserWarning)
            return cls(torch.from_numpy(entries), offsets)

    @classmethod
    def _mapped(cls, file: Path) -> TokenTable:
        stored = np.load(file, mmap_mode="r")
        count = int(stored[0])
        return cls._of(stored[1 + count :], stored[1 : 1 + count])


@dataclass
class TokenBatch:
    """Sequences of tokens. With `packed`, a row of the tensors holds several sequences.

    Attributes:
        tokens: (H, W) int64, the pad token where nothing is.
        mask: (H, W) bool, True where a token is.
        positions: (H, W) int64 place in its sequence from 0.
        sequence: (H, W) int64 number of the sequence from 1, 0 where padded.
        channels: two of (H, W) int64, from which slot, item, field and word are read.
        answer: (R,) int64 place of each sequence's last token before its answer, in the flattened (H * W) tokens.
        candidates: (R, C, 2) int64 places of the first and last token of listed candidates, -1 where there is none.
        target: (R, T) int64 tokens of the decoder's side, None without one.
        target_mask: (R, T) bool beside `target`.
    """

    tokens: Tensor
    mask: Tensor
    positions: Tensor
    sequence: Tensor
    channels: tuple[Tensor, Tensor]
    answer: Tensor
    candidates: Tensor
    target: Tensor | None = None
    target_mask: Tensor | None = None

    def __len__(self) -> int:
        return self.answer.numel()

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same on a device."""
        parts = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "channels"}
        moved = {name: part.to(device) for name, part in parts.items() if part is not None}
        return replace(self, channels=(self.channels[0].to(device), self.channels[1].to(device)), **moved)

    @property
    def slot(self) -> Tensor:
        """(H, W) int64, 0 for instructions, 1 and more for the slots of the prompt in order, ANSWER for an answer."""
        return ((self.channels[0] >> TABLE_BITS & (1 << SLOT_BITS) - 1) + ANSWER) * self.mask

    @property
    def item(self) -> Tensor:
        """(H, W) int64, for tokens of history items 1 for the newest, of listed candidates 1 for the first; else 0."""
        return self.channels[0] >> TABLE_BITS + SLOT_BITS

    @property
    def field(self) -> Tensor:
        """(H, W) int64 number of the item's column from 1, 0 for none."""
        return self.channels[1] >> CHANNELS + 1

    @property
    def word(self) -> Tensor:
        """(H, W) bool, whether the token starts a word of an item or user text."""
        return (self.channels[1] >> CHANNELS & 1).bool()

    def attention(self, causal: bool) -> Tensor:
        """(H, 1, W, W) bool, True where a token may read another: of its own sequence, not later where causal."""
        own = (self.sequence[:, :, None] == self.sequence[:, None, :]) & self.mask[:, :, None]
        return (own.tril() if causal else own)[:, None]

    def words(self) -> Tensor:
        """(H, W) int64 whole-word ids, counted from 1 in each row, 0 outside items and user texts (P5)."""
        return self.word.long().cumsum(1) * (self.slot > 0)

    def rows(self, index: Tensor | slice) -> TokenBatch:
        """The given sequences; RecloomError where a row of the tensors holds several."""
        height, width = self.tokens.shape
        if height != len(self):
            raise RecloomError(
                "single sequences cannot be taken from packed rows; take them before they are packed"
            )
        first = torch.arange(height, device=self.tokens.device) * width  # (R,) where each begins
        column, span = self.answer - first, self.candidates - first[:, None, None]
        span, here = span[index], first[: len(column[index])]
        mask = self.mask[index]
        return TokenBatch(
            tokens=self.tokens[index],
            mask=mask,
            positions=self.positions[index],
            sequence=(torch.arange(len(here), device=here.device)[:, None] + 1) * mask,
            channels=(self.channels[0][index], self.channels[1][index]),
            answer=column[index] + here,
            candidates=torch.where(self.candidates[index] < 0, -1, span + here[:, None, None]),
            target=None if self.target is None else self.target[index],
            target_mask=None if self.target_mask is None else self.target_mask[index],
        )

    def lists(self) -> list[list[int]]:
        """The tokens of each sequence, for looking at."""
        order = torch.argsort(self.sequence.flatten(), stable=True)
        kept = order[self.sequence.flatten()[order] > 0]
        counts = torch.bincount(self.sequence.flatten(), minlength=len(self) + 1)[1:]
        return [part.tolist() for part in torch.split(self.tokens.flatten()[kept], counts.tolist())]


def fast(tokenizer: Any) -> None:
    """Refuse a tokeniser that cannot say which characters a token stands for."""
    if not getattr(tokenizer, "is_fast", False):
        raise RecloomError(
            f"{type(tokenizer).__name__} does not say which characters a token stands for. Use a tokeniser of the "
            "tokenizers library, such as AutoTokenizer gives where the folder holds tokenizer.json."
        )


def pad_of(tokenizer: Any) -> int:
    """The token for padding; the end mark where there is none."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in known if token is not None), 0)


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What a tokeniser sets before and behind every text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:at], whole[at + len(bare) :]


def _tokenised(
    texts: Sequence[str], tokenizer: Any, lead: str, tail: str, starts: Sequence[Sequence[int]] | None
) -> tuple[Any, Any]:
    """int64 entries and lengths of texts that stand between BEFORE and AFTER."""
    before, after = BEFORE[lead], AFTER[tail]
    first = tokenizer(before, add_special_tokens=False)["input_ids"]
    last = tokenizer(before + after, add_special_tokens=False)["input_ids"][len(first) :]
    kept = [at for at, text in enumerate(texts) if text]
    lengths = np.zeros(len(texts), np.int64)
    if not kept:
        return np.zeros(0, np.int64), lengths
    framed = [f"{before}{lead}{texts[at]}{tail}{after}" for at in kept]
    found = tokenizer(framed, add_special_tokens=False, return_offsets_mapping=True)
    for at, row in zip(kept, found["input_ids"], strict=True):
        stop = len(row) - len(last)
        if row[: len(first)] != first or row[stop:] != last or stop < len(first):
            raise UncutError(texts[at])
        lengths[at] = stop - len(first)
    inside = slice(len(first), -len(last) or None)
    tokens = np.concatenate([np.array(row[inside], np.int64) for row in found["input_ids"]])
    spans = np.concatenate([np.array(row[inside], np.int64) for row in found["offset_mapping"]])  # (N, 2)
    size = np.array([len(text) for text in framed])
    base = np.cumsum(size) - size  # where each framed text begins among all characters
    begin, stop_at = (spans[:, side] + np.repeat(base, lengths[kept]) for side in (0, 1))
    joined = "".join(framed) + "."
    blank = np.fromiter(map(str.isspace, joined), bool, len(joined))
    solid = np.where(blank, len(joined), np.arange(len(joined)))
    solid = np.minimum.accumulate(solid[::-1])[::-1][begin]  # the first character from there that is no space
    again = np.concatenate([[False], (begin[1:] == begin[:-1]) & (stop_at[1:] == stop_at[:-1])])
    word = (solid < stop_at) & blank[solid - 1] & ~again
    field = np.zeros(len(tokens), np.int64)
    if starts is not None:
        marks = [base[i] + len(before) + len(lead) + s for i, at in enumerate(kept) for s in starts[at]]
        number = [n for at in kept for n in range(1, len(starts[at]) + 1)]
        if marks:
            which = np.searchsorted(np.array(marks), np.minimum(solid, stop_at), side="right")
            field = np.concatenate([[0], number])[which]
    return tokens + (field * 2 + word << CHANNELS), lengths


def _digest(
    texts: Sequence[str], tokenizer: Any, lead: str, tail: str, starts: Sequence[Sequence[int]] | None
) -> str:
    found = hashlib.sha256(FORMAT + tokenizer.backend_tokenizer.to_str().encode())
    found.update(repr((lead, tail, BEFORE[lead], AFTER[tail], len(texts))).encode())
    for text in texts:
        found.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
    found.update(repr(None if starts is None else [list(each) for each in starts]).encode())
    return found.hexdigest()[:32]
