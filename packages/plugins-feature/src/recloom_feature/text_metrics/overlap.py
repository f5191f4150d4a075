"""Metrics of texts against their references: BLEU, ROUGE and METEOR, by the libraries that papers use.

BLEU (Papineni et al. 2002), by sacrebleu, is over all texts at once: the geometric mean of the clipped n-gram
precisions of orders 1 to n, times exp(1 - r/c) where the c tokens of the texts are fewer than the r of their
references.

ROUGE (Lin 2004), by rouge-score, is the F1 of the n-grams, or of the longest common subsequence, of each text.

METEOR (Banerjee and Lavie 2005), by nltk, aligns the words of a text with those of its reference:

    Fmean = 10 P R / (R + 9 P)     penalty = 0.5 (chunks / matches)^3     score = Fmean (1 - penalty)

P and R are the matches by the words of the text and of the reference. A chunk is a run of matches that are
neighbours, in the same order, in both. Words are matched when they are equal, then when their Porter stems are,
then when WordNet lists them as synonyms; each stage in use is part of the metric's name and of its record.
The numbers are those of nltk, whose two habits are worth knowing: it aligns each word, from the last to the first,
with the last free place in the reference, so that where words repeat an alignment with fewer chunks may exist; and
its third stage looks up stems, so that a word which stemming changes (movie to movi) has no synonyms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from recloom.errors import RecloomError
from recloom.metrics import Measured, Reading, Texts

INSTALL = "pip install 'recloom-feature[text]'"
WORDNET = "python -m nltk.downloader wordnet"
RUN = re.compile(r"[^\W_]+")
ONE = re.compile(r"[^\W_]")


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
    tokenizer = _RougeTokenizer(texts.reading)
    scorer = RougeScorer([kind], tokenizer=tokenizer)
    values = [
        scorer.score(wanted, text)[kind].fmeasure if tokenizer.tokenize(wanted) else np.nan
        for text, wanted in zip(texts.text, texts.reference, strict=True)
    ]
    method = {"library": "rouge-score", "tokeniser": described(texts.reading), "stemming": "none"}
    return Measured(values=np.array(values, np.float64), method=method)


class _RougeTokenizer:
    """`words`, through the interface that rouge-score expects."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def tokenize(self, text: str) -> list[Any]:
        return words(text, self.reading)


def meteor_exact(texts: Texts, n: int) -> Measured:
    """METEOR of equal words."""
    return _meteor(texts, "exact", _SameWord(), _NoSynonyms())


def meteor_stem(texts: Texts, n: int) -> Measured:
    """METEOR of equal words, then of equal Porter stems."""
    return _meteor(texts, "exact, stem", _porter(), _NoSynonyms())


def meteor_synonym(texts: Texts, n: int) -> Measured:
    """METEOR of equal words, then of equal Porter stems, then of WordNet synonyms."""
    return _meteor(texts, "exact, stem, synonym", _porter(), _wordnet())


class _SameWord:
    """A stemmer that changes nothing, which leaves nltk's second stage without a match."""

    def stem(self, word: str) -> str:
        return word


class _NoSynonyms:
    """A lexicon without synsets, which leaves nltk's third stage without a match."""

    def synsets(self, word: str) -> Sequence[Any]:
        return ()


def _meteor(texts: Texts, stages: str, stemmer: Any, lexicon: Any) -> Measured:
    """NaN where there is no reference, or no word in it."""
    try:
        from nltk.translate.meteor_score import single_meteor_score
    except ImportError as error:
        raise _nltk_missing() from error
    assert texts.reference is not None
    values = []
    for text, wanted in zip(texts.text, texts.reference, strict=True):
        reference = words(wanted, texts.reading)
        own = words(text, texts.reading)
        values.append(
            single_meteor_score(reference, own, preprocess=str, stemmer=stemmer, wordnet=lexicon)
            if reference
            else np.nan
        )
    method = {"library": "nltk", "stages": stages, "tokeniser": described(texts.reading)}
    return Measured(values=np.array(values, np.float64), method=method)


def _porter() -> Any:
    """nltk's Porter stemmer; each word is stemmed once."""
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise _nltk_missing() from error
    stemmer = PorterStemmer()
    stemmer.stem = cache(stemmer.stem)
    return stemmer


def _wordnet() -> Any:
    """nltk's WordNet, whose files are no part of the library."""
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError, OSError) as error:
        raise RecloomError(
            f"meteor_synonym needs the WordNet files of nltk: {INSTALL}, then {WORDNET}. "
            "meteor_stem and meteor_exact work without these files."
        ) from error
    return wordnet


def _nltk_missing() -> RecloomError:
    return RecloomError(f"METEOR needs the nltk library: {INSTALL}")


def words(text: str, reading: Reading) -> list[str]:
    """Lower-cased runs of letters and digits of any script, in order; or single letters and digits.

    For ASCII texts the runs are those of the rouge-score library.
    """
    return (ONE if reading.words == "characters" else RUN).findall(text.lower())


def key(text: str) -> str:
    """The form in which names and attributes are compared: lower-cased words, apart by blanks."""
    return " ".join(RUN.findall(text.lower()))


def ngrams(of: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """All runs of n words, in order."""
    return zip(*(of[start:] for start in range(n)), strict=False)


def described(reading: Reading) -> str:
    """The tokeniser, in words for the record of a metric."""
    kind = "single letters and digits" if reading.words == "characters" else "runs of letters and digits"
    return f"{kind}, lower-cased"
