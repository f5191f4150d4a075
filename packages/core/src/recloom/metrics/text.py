"""Metrics of generated texts by name, and the columns that they are measured on.

A ranking is measured by a `Metric` of `metrics.py`; both come through the hook `register_metrics`, and their names
differ by their class alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RecloomError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.catalog import Catalog

Smoothing = Literal["none", "floor", "add-k", "exp"]
BleuTokenizer = Literal["13a", "intl", "zh", "char", "none"]
Words = Literal["words", "characters"]
Column = Literal["reference", "item", "cited", "named", "feature", "log_probs", "catalog"]
GIVEN_BY: dict[Column, str] = {
    "reference": "--reference COLUMN",
    "item": "--items COLUMN",
    "cited": "--cited COLUMN",
    "named": "--named COLUMN or --quoted",
    "feature": "--feature COLUMN",
    "log_probs": "--model NAME or --log-probs COLUMN",
    "catalog": "--data DATASET",
}
"""How `recloom text-metrics` names what a metric needs."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How texts are cut into tokens and counted."""

    smoothing: Smoothing = "none"
    """Of BLEU, as sacrebleu names them; without, one order without a match makes BLEU 0."""
    bleu_tokenizer: BleuTokenizer = "13a"
    lowercase: bool = False
    """Whether BLEU ignores upper and lower case; every other metric does."""
    words: Words = "words"
    """What all but BLEU count: runs of letters and digits, or single ones, for scripts without spaces."""
    log_probs_of: str = ""
    """The tokeniser and model behind `Texts.log_probs`."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """N generated texts and what is known of each; a column that was not given is None."""

    text: Sequence[str]
    reference: Sequence[str] | None = None
    """What a person wrote, "" where there is none."""
    user: Sequence[str] | None = None
    """Whom the text is for, "" where that is not known: texts of one user are no independent draws."""
    item: Sequence[str] | None = None
    """Raw id of the item that the text recommends."""
    cited: Sequence[Sequence[str]] | None = None
    """Attributes that the text gives as its reasons."""
    named: Sequence[Sequence[str]] | None = None
    """Items that the text names, by title or raw id."""
    feature: Sequence[str] | None = None
    """The feature that the text should speak of, "" where there is none."""
    features: frozenset[str] = frozenset()
    """All the features that there are; those of `feature` where empty."""
    log_probs: Sequence[Sequence[float]] | None = None
    """Natural logarithm of the probability of each token, padding left out."""
    catalog: Catalog | None = None
    reading: Reading = field(default_factory=Reading)

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a text metric found.

    `values` is one number over all texts, or (V,) float64 whose mean counts, NaN where undefined. Value v belongs
    to text `rows[v]`, or to text v without `rows`. `left_out` texts do not count in a number over all. `method`
    says how it was computed, for the record.
    """

    values: NDArray[np.float64] | float
    rows: NDArray[np.int64] | None = None
    left_out: int = 0
    method: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TextMetric:
    """A measure of generated texts, registered under `name` by the hook `register_metrics`."""

    name: str
    about: str
    """One line for `recloom list`."""
    function: Callable[[Texts, int], Measured]
    """Given the texts and the n of `name@n` (0 where it has none)."""
    needs: tuple[Column, ...] = ()
    orders: tuple[int, int] | None = None
    """The smallest and largest n of `name@n`; None where it is asked for by its name alone."""
    of: str = "texts"
    """What its values stand for, in the plural: `tokens` for a mean over tokens; the unit of chance stays the text."""
    higher_is_better: bool = True
    share: bool = True
    """Whether it lies between 0 and 1, and may be shown in percent."""
    exponent: bool = False
    """Whether what is reported is exp(mean of the values)."""


def text_names(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the text metrics among everything that `register_metrics` gave."""
    return [name for name, metric in metrics.items() if isinstance(metric, TextMetric)]


def parse_text_metric(asked: str, metrics: Mapping[str, Any]) -> tuple[TextMetric, int]:
    """Read `bleu@4` or `rouge_l`; raises RecloomError for an unknown metric, one of rankings, or a wrong n."""
    name, at, text = asked.partition("@")
    metric = metrics.get(name)
    if metric is not None and not isinstance(metric, TextMetric):
        raise RecloomError(
            f"metric {asked!r} measures rankings, expected one of texts. Use it in --model.metrics of "
            f"`recloom fit`; texts have {', '.join(text_names(metrics))}."
        )
    if metric is None:
        known = text_names(metrics)
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        raise RecloomError(
            f"text metric {asked!r}: expected one of {', '.join(near + sorted(set(known) - set(near)))}; "
            f"found {name!r}."
        )
    if metric.orders is None:
        if at:
            raise RecloomError(f"text metric {asked!r}: expected no @, found @{text}; write {name}.")
        return metric, 0
    low, high = metric.orders
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise RecloomError(
            f"text metric {asked!r}: expected a whole number from {low} to {high} after @, found {text!r}; "
            f"write for example {name}@{low}."
        )
    return metric, int(text)
