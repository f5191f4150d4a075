"""BLEU and ROUGE, by the libraries that the field compares with.

BLEU (Papineni et al. 2002) is over all texts at once: the geometric mean of the clipped n-gram precisions of orders
1 to n, times exp(1 - r/c) where the c tokens of the texts are fewer than the r of their references; by sacrebleu.
ROUGE (Lin 2004) is the F1 of the n-grams, or of the longest common subsequence, of each text; by rouge-score.

Texts to words: lower-cased runs of letters and digits of any script, or single letters and digits.

For ASCII texts the runs are those of the rouge-score library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from recloom.errors import RecloomError
from recloom.metrics import Measured, Reading, Texts

INSTALL = "pip install 'recloom-feature[text]'"


def bleu(texts: Texts, n: int) -> Measured:
    """Corpus BLEU-n, 0 to 1; texts without a reference are left out."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise RecloomError(f"bleu needs the sacrebleu library: {INSTALL}") from error
    assert texts.reference is not None
    reading = texts.reading
    pairs = [
        (text, wanted) for text, wanted in zip(texts.text, texts.reference, strict=True) if wanted.strip()
    ]
    metric = BLEU(
        lowercase=reading.lowercase,
        tokenize=reading.bleu_tokenizer,
        smooth_method=reading.smoothing,
        max_ngram_order=n,
        effective_order=False,
    )
    score = metric.corpus_score([text for text, _ in pairs], [[wanted for _, wanted in pairs]])
    method = {
        "library": "sacrebleu",
        "signature": str(metric.get_signature()),
        "tokeniser": f"{reading.bleu_tokenizer} of sacrebleu",
        "smoothing": reading.smoothing,
    }
    return Measured(values=float(score.score) / 100, left_out=len(texts) - len(pairs), method=method)


def rouge(texts: Texts, n: int) -> Measured:
    """F1 of ROUGE-n of each text."""
    return _rouge(texts, f"rouge{n}")


def rouge_l(texts: Texts, n: int) -> Measured:
    """F1 of the longest common subsequence of each text, the whole text taken as one sentence."""
    return _rouge(texts, "rougeL")


def _rouge(texts: Texts, kind: str) -> Measured:
    """NaN where there is no reference, or no word in it."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise RecloomError(f"rouge needs the rouge-score library: {INSTALL}") from error
    assert texts.reference is not None
    tokenizer = _Words(texts)
    scorer = RougeScorer([kind], tokenizer=tokenizer)
    values = [
        scorer.score(wanted, text)[kind].fmeasure if tokenizer.tokenize(wanted) else np.nan
        for text, wanted in zip(texts.text, texts.reference, strict=True)
    ]
    method = {"library": "rouge-score", "tokeniser": described(texts.reading), "stemming": "none"}
    return Measured(values=np.array(values, np.float64), method=method)


class _Words:
    """What rouge-score asks of a tokeniser."""

    def __init__(self, texts: Texts) -> None:
        self.reading = texts.reading

    def tokenize(self, text: str) -> list[Any]:
        return words(text, self.reading)


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
