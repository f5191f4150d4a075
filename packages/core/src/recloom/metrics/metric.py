"""`Metric`, the record behind each metric name, and core's own metrics; formulas are in `functional`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from torch import Tensor

from ..errors import RecloomError
from . import bootstrap_weights, functional


@dataclass(frozen=True, kw_only=True)
class ItemFacts:
    """What metrics of recommended lists know about items, on the CPU; row 0 of each tensor is padding."""

    num_items: int
    popularity: Tensor | None = None
    """(num_items + 1,) interactions of the training part."""
    vectors: Tensor | None = None
    """(num_items + 1, D) float, for `diversity`."""
    categories: Tensor | None = None
    """(num_items + 1,) int64, for `category_diversity`."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A measure of recommendations, registered under `name` by the hook `register_metrics`.

    What `function` is given and gives back, R requests in all or in a batch:
    needs="ranks": (ranks (R, T), k) to (R,); ranks deeper than every cutoff in use may be MISSED.
    needs="top": (items (R, K) with 0 where a list is shorter, the fact or num_items) to (R,).
    needs="scores": (scores (N,), labels (N,), request of each pair (N,), R) to (R,).
    With per_request=False the result is one number over all requests, and the arguments of a "scores"
    metric are (scores (N,), labels (N,), user of each pair (N,)). NaN means undefined, and is counted apart.
    """

    name: str
    needs: Literal["ranks", "top", "scores"]
    function: Callable[..., Tensor]
    per_request: bool = True
    higher_is_better: bool = True
    cutoff: Literal["required", "optional", "none"] = "required"
    """Whether the metric is asked for as `name@k`."""
    of_draws: Callable[[Tensor, Tensor, Tensor], bootstrap_weights.OfDraws] | None = None
    """For a "scores" metric with per_request=False that is to have an interval: see `bootstrap_weights`."""
    fact: Literal["num_items", "popularity", "vectors", "categories"] = "num_items"
    """The field of ItemFacts that a "top" metric takes."""


def core_metrics() -> list[Metric]:
    """The metrics of core; formulas and sources are in `recloom.metrics.functional`."""
    f = functional
    of_pairs = functools.partial(Metric, needs="scores", cutoff="none", per_request=False)
    return [
        Metric(name="recall", needs="ranks", function=f.recall),
        Metric(name="precision", needs="ranks", function=f.precision),
        Metric(name="hit", needs="ranks", function=f.hit),
        Metric(name="ndcg", needs="ranks", function=f.ndcg, cutoff="optional"),
        Metric(name="mrr", needs="ranks", function=f.mrr, cutoff="optional"),
        Metric(name="map", needs="ranks", function=f.average_precision, cutoff="optional"),
        Metric(name="impression_mrr", needs="ranks", function=f.impression_mrr, cutoff="optional"),
        Metric(name="impression_auc", needs="scores", function=f.grouped_auc, cutoff="none"),
        of_pairs(name="auc", function=_pooled(f.auc), of_draws=bootstrap_weights.auc),
        of_pairs(name="gauc", function=f.gauc, of_draws=bootstrap_weights.gauc),
        of_pairs(
            name="log_loss",
            function=_pooled(f.log_loss),
            of_draws=bootstrap_weights.log_loss,
            higher_is_better=False,
        ),
        Metric(name="coverage", needs="top", function=f.coverage, per_request=False),
        Metric(name="gini", needs="top", function=f.gini, per_request=False, higher_is_better=False),
        Metric(name="novelty", needs="top", function=f.novelty, fact="popularity"),
        Metric(
            name="popularity_bias",
            needs="top",
            function=f.popularity_bias,
            fact="popularity",
            higher_is_better=False,
        ),
        Metric(name="diversity", needs="top", function=f.diversity, fact="vectors"),
        Metric(name="category_diversity", needs="top", function=f.category_diversity, fact="categories"),
    ]


def _pooled(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    @functools.wraps(function)
    def over_all(scores: Tensor, labels: Tensor, users: Tensor) -> Tensor:
        return function(scores, labels)

    return over_all


def parse_metric(asked: str, metrics: Mapping[str, Any]) -> tuple[Metric, int | None]:
    """Read `ndcg@10` or `auc`; RecloomError for an unknown metric, one of texts, or a cutoff that does not fit."""
    if "/" in asked:
        raise RecloomError(
            f"metric {asked!r}: expected a name without a part: every metric is measured on each part too, such as "
            f"tail and new, and stands so in the table and in metrics.json. Write {asked.partition('/')[0]}."
        )
    name, at, text = asked.partition("@")
    of_rankings = {known: metric for known, metric in metrics.items() if isinstance(metric, Metric)}
    if name in metrics and name not in of_rankings:
        raise RecloomError(
            f"metric {asked!r} measures texts, expected one of rankings, such as ndcg@10. "
            "Measure texts with `recloom text-metrics FILE --metrics " + name + "`."
        )
    if name not in of_rankings:
        near = get_close_matches(name, of_rankings, n=3, cutoff=0.5)
        known = ", ".join(near + sorted(set(of_rankings) - set(near)))
        raise RecloomError(f"metric {asked!r}: expected one of {known}; found {name!r}.")
    metric = of_rankings[name]
    if not at and metric.cutoff == "required":
        raise RecloomError(f"metric {asked!r}: expected a cutoff, found none; write for example {name}@10.")
    if at and metric.cutoff == "none":
        raise RecloomError(f"metric {asked!r}: expected no cutoff, found @{text}; write {name}.")
    if at and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise RecloomError(f"metric {asked!r}: expected a whole number above 0 after @, found {text!r}.")
    return metric, int(text) if at else None
