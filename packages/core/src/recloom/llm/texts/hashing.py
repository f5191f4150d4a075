"""Texts to vectors without a model: hashed words and character n-grams (the hashing trick, Weinberger 2009).

The same text gives the same vector on every machine and in every process. Texts that share words or parts of
words are near each other; meaning beyond that is not seen.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import punctuation
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import RecloomError
from .. import TextEncoder

if TYPE_CHECKING:
    from .. import Vectors

Codes = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]

CHUNK = 500_000  # characters encoded at once, which bounds memory to a few hundred MB
BASE = np.uint64(0x100000001B3)  # odd, so it has an inverse modulo 2^64
INVERSE = np.uint64(pow(int(BASE), -1, 1 << 64))
SPACE = np.uint64(ord(" "))
TO_SPACE = str.maketrans(punctuation, " " * len(punctuation))


@dataclass(frozen=True)
class HashingNgrams(TextEncoder):
    """Counts of words and of character n-grams inside words, hashed with signs into `dim` places.

    A count c weighs 1 + ln c; vectors have length 1, and a text without words has vector 0. Case and
    compatibility forms (full width, ligatures) are folded, blanks and ASCII punctuation part words; any
    script works, emoji included.

    Args:
        dim: number of places.
        shortest, longest: lengths of the n-grams, a blank at either end of a word included.
    """

    dim: int = 512
    shortest: int = 3
    longest: int = 5

    normalized = True
    max_tokens = None

    def __post_init__(self) -> None:
        if self.dim < 1 or not 2 <= self.shortest <= self.longest:
            raise RecloomError(
                "HashingNgrams needs dim >= 1 and 2 <= shortest <= longest; "
                f"found dim={self.dim}, shortest={self.shortest}, longest={self.longest}"
            )

    def encode(self, texts: Sequence[str]) -> Vectors:
        rows = [self._encode(chunk) for chunk in _chunks(texts)]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def _encode(self, texts: list[str]) -> Vectors:
        codes, text = _characters(texts)
        features, owners = self._features(codes, text)
        first, counts = _distinct(features, owners)
        features, owners = features[first], owners[first]
        places = owners * self.dim + (features % np.uint64(self.dim)).astype(np.int64)
        signs = np.where(features >> np.uint64(63), 1.0, -1.0)
        size = len(texts) * self.dim
        vectors = np.bincount(places, signs * (1 + np.log(counts)), size).reshape(-1, self.dim)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Vectors = (vectors / np.where(length > 0, length, 1)).astype(np.float32)
        return unit

    def _features(self, codes: Codes, text: Places) -> tuple[Codes, Places]:
        """Hashes of all words and n-grams, and the text each stands in."""
        prefix, inverse = _prefixes(codes)
        blanks = np.flatnonzero(codes == SPACE)  # a word runs from one blank to the next, both included
        starts, stops = blanks[:-1], blanks[1:] + 1
        whole = stops - starts > 2
        starts, stops = starts[whole], stops[whole]
        found = [_mix(_substrings(prefix, inverse, starts, stops))]
        owners = [text[starts]]
        blank = codes == SPACE
        passed = np.cumsum(blank)
        for n in range(self.shortest, self.longest + 1):
            begin = np.arange(len(codes) - n + 1)
            inside = passed[begin + n - 2] > passed[begin]  # a blank that is neither first nor last
            between = blank[begin] & blank[begin + 1]  # the end of one text and the start of the next
            begin = begin[~inside & ~between]
            found.append(_mix(_substrings(prefix, inverse, begin, begin + n) + np.uint64(n)))
            owners.append(text[begin])
        return np.concatenate(found), np.concatenate(owners)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Runs of texts of about CHUNK characters, at least one text each."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _characters(texts: list[str]) -> tuple[Codes, Places]:
    """All code points, each text as ` word word `, and the index of the text each belongs to."""
    words = (unicodedata.normalize("NFKC", text).casefold().translate(TO_SPACE).split() for text in texts)
    clean = [f" {' '.join(each)} " for each in words]
    codes = np.frombuffer("".join(clean).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    return codes, np.repeat(np.arange(len(clean)), [len(text) for text in clean])


def _prefixes(codes: Codes) -> tuple[Codes, Codes]:
    """Sums of mixed code times BASE^position up to each position, and BASE^-position, modulo 2^64."""
    powers = np.cumprod(np.full(len(codes), BASE), dtype=np.uint64)
    inverse = np.cumprod(np.full(len(codes), INVERSE), dtype=np.uint64)
    sums = np.cumsum(_mix(codes) * powers, dtype=np.uint64)
    return np.concatenate([np.zeros(1, np.uint64), sums]), inverse


def _substrings(prefix: Codes, inverse: Codes, starts: Places, stops: Places) -> Codes:
    """Polynomial hash of each substring: equal for equal substrings wherever they stand."""
    hashes: Codes = (prefix[stops] - prefix[starts]) * inverse[starts]
    return hashes


def _mix(values: Codes) -> Codes:
    """The finaliser of SplitMix64: spreads every bit over all bits."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Codes = values ^ (values >> np.uint64(31))
    return mixed


def _distinct(features: Codes, owners: Places) -> tuple[Places, Places]:
    """Where each distinct (feature, owner) first stands, and how often it occurs."""
    keys = _mix(features ^ _mix(owners.astype(np.uint64)))
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return first, counts
