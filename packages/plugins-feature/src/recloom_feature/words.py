"""Texts to words: lower-cased runs of letters and digits of any script, or single letters and digits.

For ASCII texts the runs are those of the rouge-score library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from recloom.text_metrics import Reading

RUN = re.compile(r"[^\W_]+")
ONE = re.compile(r"[^\W_]")


def words(text: str, reading: Reading) -> list[str]:
    """The words of a text, in order."""
    return (ONE if reading.words == "characters" else RUN).findall(text.lower())


def key(text: str) -> str:
    """A text as names and attributes are compared: its words, upper or lower case, without punctuation."""
    return " ".join(RUN.findall(text.lower()))


def ngrams(of: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All runs of n words, in order."""
    return zip(*(of[start:] for start in range(n)), strict=False)


def described(reading: Reading) -> str:
    """The tokeniser, for the record."""
    kind = "single letters and digits" if reading.words == "characters" else "runs of letters and digits"
    return f"{kind}, lower-cased"
