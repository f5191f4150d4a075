"""Parity report: the differences between an artefact and its recommender, and the verdict.

In full precision every place must be the recommender's, but for ties. With fewer bits ranks differ, so there the
artefact may lose so much of the recommender's NDCG over all test users; what does not depend on scores (masks,
lengths, unknown ids, the lists of cold-start users) must hold exactly at any precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from recloom.batch import Batch
from recloom.data import Catalog
from torch import Tensor

from ..artifact.ids import Array
from ..artifact.session import Session
from .cases import Case, cleaned, indexed, indices
from .comparison import Comparison, compare, faults, list_metrics, overlap
from .reference import Reference

METRIC = "ndcg@10"
EQUAL = 1e-6
"""How far apart metrics of equal lists may be."""
FEWEST = 100
"""Test users from which a loss of NDCG is decided; of fewer, the lists of one or two decide it."""
PROMISE = "what holds at any precision: items that may be recommended, once, by falling scores, then ''"


@dataclass
class ParityReport:
    """Differences over the cases that were added so far."""

    tolerance: float
    exact: bool = True
    """Whether every place must be the recommender's."""
    requests: int = 0
    mismatches: int = 0
    ties: int = 0
    difference: float = 0.0
    failures: list[str] = field(default_factory=list)
    expected: list[dict[str, Tensor]] = field(default_factory=list)
    found: list[dict[str, Tensor]] = field(default_factory=list)
    resolved: list[dict[str, Tensor]] = field(default_factory=list)
    """As `found`, with the recommender's item where the artefact has another of equal score."""

    def add(self, case: Case, session: Session, reference: Reference, catalog: Catalog) -> None:
        """Run one case through both."""
        try:
            ids, scores = session.run(case.given, case.k)
        except Exception as error:  # onnxruntime raises classes of its own
            self.failures.append(f"{case.name}: {str(error).splitlines()[0]}")
            return
        items = indices(ids, catalog.item_index)
        batch, *limits = indexed(case.given, catalog)
        wanted, given = reference(batch, *limits), torch.from_numpy(scores)
        result = compare(items, given, wanted, self.tolerance)
        self.requests += len(items)
        self.mismatches += int(result.wrong.sum())
        self.ties += int(result.tied.sum())
        self.difference = max(self.difference, float(result.difference.max()) if items.numel() else 0.0)
        wrong, promise = result.wrong, ""
        if not self.exact:
            cold = _cold_start(batch, session.manifest.fields)
            wrong = faults(items, given, wanted) | (result.wrong & cold[:, None])
            promise = f" ({PROMISE})"
            self.compare_cleaned(case, session, scores, catalog)
        if wrong.any():
            self.failures.append(_first(case, ids, scores, wrong, result, catalog) + promise)
        if case.targets is not None:
            same = items.where(~result.tied, result.expected)
            self.expected.append(list_metrics(result.expected, case.targets))
            self.resolved.append(list_metrics(same, case.targets))
            self.found.append(
                list_metrics(items, case.targets) | {"overlap": overlap(items, result.expected)}
            )

    def compare_cleaned(self, case: Case, session: Session, scores: Array, catalog: Catalog) -> None:
        """Unknown ids must change nothing; scores of less than full precision cannot show that otherwise."""
        if case.targets is None:
            _, clean = session.run(cleaned(case.given, catalog), case.k)
            if not np.allclose(scores, clean, self.tolerance, self.tolerance):
                self.failures.append(f"{case.name}: without its unknown ids a request gets another list")

    @property
    def means(self) -> tuple[dict[str, float], dict[str, float], float | None]:
        """Metrics of the recommender and of the artefact, and the overlap of their lists."""
        found = _means(self.found)
        share = found.pop("overlap", None)
        return _means(self.expected), found, share

    @property
    def users(self) -> int:
        """Requests of test users with a held-out item."""
        return sum(int(part[METRIC].isfinite().sum()) for part in self.expected)

    def loss(self) -> float | None:
        """Share of the recommender's NDCG that the artefact loses; None where that is 0 or unknown."""
        expected, found, _ = self.means
        before = expected.get(METRIC, 0.0)
        return (before - found[METRIC]) / before if before > 0 else None

    def judge(self, max_loss: float) -> list[str]:
        """The faults of the metrics, as messages."""
        expected, found, _ = self.means
        if self.exact:
            same = _means(self.resolved)
            return [
                f"{name} over {self.users:,} test users is {same[name]:.7f}, and the recommender's {value:.7f}; "
                f"expected the same to {EQUAL:g}"
                for name, value in expected.items()
                if abs(value - same[name]) > EQUAL
            ]
        cannot = f"whether more than {max_loss:.2%} of the NDCG@10 is lost cannot be decided: "
        if self.users < FEWEST:
            return [f"{cannot}found {self.users:,} test users, expected at least {FEWEST}"]
        lost = self.loss()
        if lost is None:
            return [f"{cannot}the recommender's own NDCG@10 over {self.users:,} test users is 0"]
        if lost <= max_loss:
            return []
        return [
            f"NDCG@10 over {self.users:,} test users is {found[METRIC]:.4f}, and the recommender's "
            f"{expected[METRIC]:.4f}: {lost:.2%} of it is lost, allowed is {max_loss:.2%} (--max_loss)"
        ]


def _cold_start(batch: Batch, fields: list[str]) -> Tensor:
    """(B,) whether a user is a cold-start user, who gets the most popular items."""
    signs = [getattr(batch, name) for name in fields if name in ("history", "user")]
    known = [sign.view(len(batch), -1).any(1) for sign in signs]
    return ~torch.stack(known).any(0) if known else torch.zeros(len(batch), dtype=torch.bool)


def _first(case: Case, ids: Array, scores: Array, wrong: Tensor, result: Comparison, catalog: Catalog) -> str:
    row, place = wrong.nonzero()[0].tolist()
    index = int(result.expected[row, place])
    name = catalog.item_ids([index])[0][:40] if index else ""
    return (
        f"{case.name}: place {place + 1} of request {row + 1} is {str(ids[row, place])[:40]!r} with "
        f"score {scores[row, place]:.6g}, expected {name!r}"
    )


def _means(parts: list[dict[str, Tensor]]) -> dict[str, float]:
    names = parts[0] if parts else ()
    means = {name: float(torch.cat([part[name] for part in parts]).nanmean()) for name in names}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
