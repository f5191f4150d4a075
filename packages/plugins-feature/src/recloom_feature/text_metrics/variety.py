"""How varied texts are: distinct n-grams (Li et al. 2016) and the share of texts that are unique (NETE, PETER)."""

from __future__ import annotations

from recloom.metrics import Measured, Texts

from .overlap import described, ngrams, words


def distinct(texts: Texts, n: int) -> Measured:
    """Distinct n-grams by all n-grams of all texts; NaN where no text has n words."""
    found = [gram for text in texts.text for gram in ngrams(words(text, texts.reading), n)]
    value = len(set(found)) / len(found) if found else float("nan")
    return Measured(values=value, method={"tokeniser": described(texts.reading), "ngrams": str(len(found))})


def unique_texts(texts: Texts, n: int) -> Measured:
    """USR: different texts by texts; texts of the same words in the same order are one."""
    kinds = {tuple(words(text, texts.reading)) for text in texts.text}
    return Measured(values=len(kinds) / len(texts), method={"tokeniser": described(texts.reading)})
