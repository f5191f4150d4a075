"""Metrics of texts without references: perplexity, diversity, and the features that texts should mention.

Perplexity is exp of the mean negative log-probability over the tokens of all texts, padding left out.

Diversity is the share of distinct n-grams (Li et al. 2016) and of unique texts (USR of NETE and PETER).

Feature metrics FMR, FCR and DIV are those of NETE (Li et al. 2020) and PETER (2021). F_i are the features that
text i names, f_i the one it should, F all that there are, N the number of texts:

    FMR = mean of [f_i in F_i]      FCR = |union of F_i| / |F|      DIV = mean over pairs i < j of |F_i and F_j|

PETER's features are single words of the whole data set; here one may have several words, and F is given as a file
or else is what the column of f_i holds.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from recloom.metrics import Measured, Texts

from .overlap import described, ngrams, words

Feature = tuple[str, ...]


def perplexity(texts: Texts, n: int) -> Measured:
    """Negative log-probabilities of the tokens; a text without one counts as undefined."""
    assert texts.log_probs is not None
    lengths = np.array([len(row) for row in texts.log_probs], np.int64)
    values = -np.array([value for row in texts.log_probs for value in row], np.float64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return Measured(values=values, rows=rows, method={"tokeniser": texts.reading.log_probs_of})


def distinct(texts: Texts, n: int) -> Measured:
    """Distinct n-grams divided by all n-grams of all texts; NaN where no text has n words."""
    found = [gram for text in texts.text for gram in ngrams(words(text, texts.reading), n)]
    value = len(set(found)) / len(found) if found else float("nan")
    return Measured(values=value, method={"tokeniser": described(texts.reading), "ngrams": str(len(found))})


def unique_texts(texts: Texts, n: int) -> Measured:
    """USR: distinct texts divided by texts; texts of the same words in the same order are one."""
    kinds = {tuple(words(text, texts.reading)) for text in texts.text}
    return Measured(values=len(kinds) / len(texts), method={"tokeniser": described(texts.reading)})


def feature_matching(texts: Texts, n: int) -> Measured:
    """FMR: 1 where a text names its feature, NaN where it has none."""
    assert texts.feature is not None
    wanted = [tuple(words(one, texts.reading)) for one in texts.feature]
    named = _named(texts, {feature for feature in wanted if feature})
    values = [
        float(feature in found) if feature else np.nan for feature, found in zip(wanted, named, strict=True)
    ]
    return Measured(values=np.array(values, np.float64), method={"tokeniser": described(texts.reading)})


def feature_coverage(texts: Texts, n: int) -> Measured:
    """FCR: the share of all features that some text names."""
    known = _known(texts)
    found = set().union(*_named(texts, known))
    return Measured(values=len(found) / len(known) if known else float("nan"), method=_method(texts, known))


def feature_diversity(texts: Texts, n: int) -> Measured:
    """DIV: how many features two texts have in common, on average; NaN for fewer than two texts."""
    known = _known(texts)
    counts = Counter(feature for found in _named(texts, known) for feature in found)
    pairs = len(texts) * (len(texts) - 1) / 2
    common = sum(count * (count - 1) / 2 for count in counts.values())
    return Measured(values=common / pairs if pairs else float("nan"), method=_method(texts, known))


def _known(texts: Texts) -> set[Feature]:
    assert texts.feature is not None
    given = (tuple(words(one, texts.reading)) for one in texts.features or texts.feature)
    return {feature for feature in given if feature}


def _named(texts: Texts, known: set[Feature]) -> list[set[Feature]]:
    """The known features that each text names, as whole words."""
    sizes = {len(feature) for feature in known}
    found = []
    for text in texts.text:
        own = words(text, texts.reading)
        found.append({gram for size in sizes for gram in ngrams(own, size) if gram in known})
    return found


def _method(texts: Texts, known: set[Feature]) -> dict[str, str]:
    origin = "a file" if texts.features else "the column of features"
    return {"tokeniser": described(texts.reading), "features": f"{len(known)}, from {origin}"}
