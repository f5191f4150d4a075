"""Verification: an artefact equals the recommender it was made from, or with fewer bits ranks as well."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recloom.batch import Batch
from recloom.data import Catalog
from recloom.errors import RecloomError

from ..artifact.manifest import Manifest, Parity, check_loss, id_digest, weight_digest
from ..artifact.session import Provider, Session
from .cases import Case, shape_cases, user_cases
from .parity_report import METRIC, ParityReport
from .reference import Reference

if TYPE_CHECKING:
    from recloom.runs import Run
    from rich.table import Table

SHOWN = 5
TIMED, WARM = 300, 10
MAX_SECONDS = 20.0
"""Seconds for measuring the latency; beyond, it is that of the requests so far."""


def verify_artefact(
    path: str | Path,
    reference: Reference,
    catalog: Catalog,
    requests: Iterable[Batch] = (),
    *,
    tolerance: float = 1e-4,
    max_loss: float = 0.01,
    provider: Provider = "cpu",
    threads: int | None = 1,
) -> Parity:
    """Compare an artefact with its recommender, and keep the outcome in the manifest.

    Batches of 1, 2, 7 and 64 requests with 0, 1, 5, max_len and max_len + 20 history items, among them
    repeated and unknown ones; blocked items; empty histories; a list longer than the catalogue; test users.

    Args:
        path: `model.onnx`.
        reference: scores as they should be.
        catalog: of the recommender.
        requests: of test users; with held-out items as labels, metrics of both are compared.
        tolerance: see `compare`.
        max_loss: how much of the reference's NDCG@10 an int8 or fp16 artefact may lose over the test users.
        provider, threads: as in `Session`.

    Raises RecloomError where the artefact cannot be loaded or belongs to another catalogue.
    """
    check_loss(max_loss)
    session = Session(path, provider, threads, allow_unverified=True)
    manifest = session.manifest
    _check_catalog(manifest, catalog, session.path)
    parity_report = ParityReport(tolerance, manifest.exact)
    shapes = list(shape_cases(manifest, catalog))
    timed = EvenSample()
    with torch.inference_mode():
        for case in shapes:
            parity_report.add(case, session, reference, catalog)
        for case in user_cases(requests, catalog):
            parity_report.add(case, session, reference, catalog)
            timed.add(case)
    failures = [*parity_report.failures[:SHOWN], *parity_report.judge(max_loss)]
    expected, found, share = parity_report.means
    parity = Parity(
        verified=not failures,
        cases=len(shapes),
        requests=parity_report.requests,
        tolerance=tolerance,
        mismatches=parity_report.mismatches,
        ties=parity_report.ties,
        max_difference=parity_report.difference if math.isfinite(parity_report.difference) else None,
        reference=expected,
        artefact=found,
        test_requests=sum(len(part[METRIC]) for part in parity_report.found),
        max_loss=None if parity_report.exact else max_loss,
        loss=parity_report.loss(),
        overlap=share,
        latency_ms=latency(session, timed.cases or shapes),
        provider=provider,
        threads=threads,
        bytes=sum(session.path.with_name(name).stat().st_size for name in manifest.files),
        failures=failures,
    )
    manifest.model_copy(update={"parity": parity}).write(session.path)
    return parity


class EvenSample:
    """An even sample of many cases, since test requests are ordered by the length of their history."""

    MOST = 64

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.count, self.stride = 0, 1

    def add(self, case: Case) -> None:
        """Keep every case, then every second, then every fourth, and so on."""
        if self.count % self.stride == 0:
            self.cases.append(case)
        if len(self.cases) > self.MOST:
            self.cases, self.stride = self.cases[::2], 2 * self.stride
        self.count += 1


def refuse_other_run(path: Path, manifest: Manifest, run: Run) -> None:
    """Raise RecloomError where an artefact's manifest shows that it was not made from this run; nothing is written.

    Compared are the model's class, its options, the item ids and the weights.
    """
    model = type(run.recommender).__name__
    config = manifest.model_copy(update={"config": run.module.recipe["init_args"]})
    options = json.loads(config.model_dump_json())["config"]
    if (model, options) != (manifest.model, manifest.config):
        raise RecloomError(
            f"{path} was exported from {_described(manifest.model, manifest.config)}, and the run {run.folder} is "
            f"{_described(model, options)}. Nothing was compared or written. Give the run it was exported from "
            f"with --run, or export this one."
        )
    _check_catalog(manifest, run.catalog, path, f"the run {run.folder}")
    if weight_digest(run.recommender.state_dict()) != manifest.weights:
        raise RecloomError(
            f"{path} was exported from another training of {model}: the weights of the run {run.folder} are not "
            "those it was made from. Nothing was compared or written. Export the run again."
        )


def _described(model: str, options: dict[str, Any]) -> str:
    return f"{model}({', '.join(f'{name}={value!r}' for name, value in options.items())})"


def latency(session: Session, cases: list[Case]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds of one request at a time, of requests spread over the cases."""
    rows = [(case, row) for case in cases for row in range(len(case.given["history"]))]
    chosen = [rows[place] for place in np.linspace(0, len(rows) - 1, min(TIMED, len(rows))).astype(int)]
    spent: list[float] = []
    begun = time.perf_counter()
    warm = chosen[:WARM]
    for number, (case, row) in enumerate([*warm, *chosen]):
        given = {name: array[row : row + 1] for name, array in case.given.items()}
        start = time.perf_counter()
        session.run(given, 10)
        if number >= len(warm):
            spent.append(1000 * (time.perf_counter() - start))
        if start - begun > MAX_SECONDS and spent:
            break
    found = np.percentile(spent, [50, 95, 99]).round(3).tolist()
    return dict(zip(("p50", "p95", "p99"), found, strict=True))


def parity_table(parity: Parity, num_items: int) -> Table:
    """The outcome as a table for the screen; metrics are those of lists among all `num_items`."""
    from recloom.terminal import plain
    from rich.table import Table

    table = Table(title="verified" if parity.verified else "NOT verified", title_justify="left", box=None)
    table.add_column("what")
    table.add_column("found", justify="right", overflow="fold")
    difference = parity.max_difference
    rows = {
        "requests compared": f"{parity.requests:,} in {parity.cases} shapes and test users",
        "places that differ": f"{parity.mismatches:,}",
        "places that differ within ties": f"{parity.ties:,}",
        "largest score difference": "not a number" if difference is None else f"{difference:.2e}",
        f"{', '.join(parity.latency_ms)} of one request ({parity.provider}, {parity.threads or 'all'} threads)": (
            ", ".join(f"{value:.2f}" for value in parity.latency_ms.values()) + " ms"
        ),
        "size": f"{parity.bytes / 1e6:.1f} MB",
    }
    for name, value in parity.artefact.items():
        among = f"among all {num_items:,} items, {parity.test_requests:,} test users"
        rows[f"{name} {among}: artefact, recommender"] = f"{value:.4f}, {parity.reference[name]:.4f}"
    if parity.overlap is not None:
        rows["recommender's first ten among the artefact's"] = f"{parity.overlap:.2%}"
    if parity.max_loss is not None and parity.loss is not None:
        rows["NDCG@10 lost, allowed"] = f"{parity.loss:+.2%}, {parity.max_loss:.2%}"
    for number, failure in enumerate(parity.failures, 1):
        rows[f"failure {number}"] = failure
    for name, text in rows.items():
        table.add_row(name, plain(text, 400))
    return table


def _check_catalog(manifest: Manifest, catalog: Catalog, path: Path, owner: str = "this run") -> None:
    if id_digest(catalog.items["item_id"]) != manifest.id_table:
        raise RecloomError(
            f"{path} holds the ids of {manifest.num_items:,} items, which are not those of {owner}'s "
            f"catalogue ({catalog.num_items:,} items). Verify it against the run it was exported from."
        )
