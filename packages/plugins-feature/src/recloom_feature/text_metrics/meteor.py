"""METEOR (Banerjee and Lavie 2005): words of a text aligned with those of its reference.

Fmean = 10 P R / (R + 9 P), penalty = 0.5 (chunks / matches)^3, score = Fmean (1 - penalty)

P and R are the matches by the words of the text and of the reference. A chunk is a run of matches that are
neighbours, in the same order, in both. Words are matched when they are equal, then when their Porter stems are,
then when WordNet knows them as synonyms; which of these stages were used stands in the name of the metric. Of the
alignments with the most matches of the earlier stages the one with the fewest chunks counts, found by a beam of 40.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from recloom.errors import RecloomError
from recloom.metrics import Measured, Texts

from .overlap import INSTALL, described, words

BEAM = 40
"""Alignments kept at each word, as in METEOR 1.5."""
Forms = Sequence[Callable[[str], frozenset[str]]]
"""For each stage the forms of a word; two words match in it where they share one."""
WORDNET = "python -m nltk.downloader wordnet"


def meteor_exact(texts: Texts, n: int) -> Measured:
    """Equal words only."""
    return _measured(texts, [_itself], "exact")


def meteor_stem(texts: Texts, n: int) -> Measured:
    """Equal words, then equal Porter stems."""
    return _measured(texts, [_itself, _stems()], "exact, stem")


def meteor_synonym(texts: Texts, n: int) -> Measured:
    """Equal words, then equal Porter stems, then words of a common WordNet synset."""
    return _measured(texts, [_itself, _stems(), _synsets()], "exact, stem, synonym")


def meteor(text: Sequence[str], reference: Sequence[str], forms: Forms = ()) -> float:
    """The score of one text, 0 where nothing matches; both are words."""
    matches, chunks = align(text, reference, forms or [_itself])
    if not matches:
        return 0.0
    precision, recall = matches / len(text), matches / len(reference)
    mean = 10 * precision * recall / (recall + 9 * precision)
    return mean * (1 - 0.5 * (chunks / matches) ** 3)


def align(text: Sequence[str], reference: Sequence[str], forms: Forms) -> tuple[int, int]:
    """Matches and chunks of the best alignment."""
    options = _options(text, reference, forms)
    # a state: matches of each stage (negative, so that smaller is better), chunks, taken places (bits), last place
    beam: list[tuple[tuple[int, ...], int, int, int]] = [((0,) * len(forms), 0, 0, -2)]
    for mine in options:
        following: dict[tuple[int, int], tuple[tuple[int, ...], int, int, int]] = {}
        for counts, chunks, taken, last in beam:
            free = [(place, stage) for place, stage in mine if not taken >> place & 1]
            reached = [(counts, chunks, taken, -2)]
            for place, stage in free:
                more = tuple(count - (at == stage) for at, count in enumerate(counts))
                reached.append((more, chunks + (place != last + 1), taken | 1 << place, place))
            for state in reached:
                at = state[2:]
                following[at] = min(following.get(at, state), state)
        beam = sorted(following.values())[:BEAM] if len(following) > BEAM else list(following.values())
    counts, chunks, _, _ = min(beam)
    return -sum(counts), chunks


def _options(text: Sequence[str], reference: Sequence[str], forms: Forms) -> list[list[tuple[int, int]]]:
    """For each word of the text the places in the reference that it matches, with the first stage it does so in."""
    theirs = [[form(word) for word in reference] for form in forms]
    known: dict[str, list[tuple[int, int]]] = {}
    for word in set(text):
        stages = [
            [stage for stage, form in enumerate(forms) if form(word) & theirs[stage][place]]
            for place in range(len(reference))
        ]
        known[word] = [(place, found[0]) for place, found in enumerate(stages) if found]
    return [known[word] for word in text]


def _measured(texts: Texts, forms: Forms, stages: str) -> Measured:
    """NaN where there is no reference, or no word in it."""
    assert texts.reference is not None
    values = []
    for text, wanted in zip(texts.text, texts.reference, strict=True):
        reference = words(wanted, texts.reading)
        values.append(meteor(words(text, texts.reading), reference, forms) if reference else np.nan)
    method = {"stages": stages, "tokeniser": described(texts.reading), "alignment": f"beam of {BEAM}"}
    return Measured(values=np.array(values, np.float64), method=method)


def _itself(word: str) -> frozenset[str]:
    return frozenset({word})


def _stems() -> Callable[[str], frozenset[str]]:
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise RecloomError(
            f"meteor_stem needs the nltk library: {INSTALL}. meteor_exact does not."
        ) from error
    stemmer = PorterStemmer()
    return cache(lambda word: frozenset({stemmer.stem(word)}))


def _synsets() -> Callable[[str], frozenset[str]]:
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError, OSError) as error:
        raise RecloomError(
            f"meteor_synonym needs the WordNet files of nltk: {INSTALL}, then {WORDNET}. "
            "meteor_stem and meteor_exact work without."
        ) from error
    return cache(lambda word: frozenset(_names(wordnet.synsets(word))))


def _names(synsets: Sequence[Any]) -> list[str]:
    return [synset.name() for synset in synsets]
