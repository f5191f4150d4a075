"""Show that an artefact equals the recommender it was made from, over shapes, odd requests and test users."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from torch import Tensor

from .cases import Case, indexed, indices, shape_cases, user_cases
from .compare import compare, list_metrics
from .manifest import Manifest, Parity, id_digest, weight_digest
from .reference import Reference
from .session import Provider, Session

if TYPE_CHECKING:
    from recloom.run import Run
    from rich.table import Table

SHOWN = 5
TIMED = 200


def verify_artefact(
    path: str | Path,
    reference: Reference,
    catalog: Catalog,
    requests: Iterable[Batch] = (),
    *,
    tolerance: float = 1e-4,
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
        provider, threads: as in `Session`.

    Raises RecloomError where the artefact cannot be loaded or belongs to another catalogue.
    """
    session = Session(path, provider, threads, allow_unverified=True)
    manifest = session.manifest
    _check_catalog(manifest, catalog, session.path)
    tally = Tally(tolerance)
    shapes = list(shape_cases(manifest, catalog))
    users = list(user_cases(requests, catalog))
    with torch.inference_mode():
        for case in (*shapes, *users):
            tally.add(case, session, reference, catalog)
    parity = Parity(
        verified=not tally.failures,
        cases=len(shapes),
        requests=tally.requests,
        tolerance=tolerance,
        mismatches=tally.mismatches,
        ties=tally.ties,
        max_difference=tally.difference if math.isfinite(tally.difference) else None,
        reference=_means(tally.expected),
        artefact=_means(tally.found),
        test_requests=sum(len(next(iter(part.values()))) for part in tally.found),
        latency_ms=latency(session, users or shapes),
        bytes=sum(session.path.with_name(name).stat().st_size for name in manifest.files),
        failures=tally.failures[:SHOWN],
    )
    manifest.model_copy(update={"parity": parity}).write(session.path)
    return parity


def refuse_other_run(path: Path, manifest: Manifest, run: Run) -> None:
    """Raise RecloomError where an artefact says of itself that it was not made from this run; reads only.

    Compared are the model's class, its options, the item ids and the weights.
    """
    model = type(run.recommender).__name__
    config = manifest.model_copy(update={"config": run.module.recipe["init_args"]})
    options = json.loads(config.model_dump_json())["config"]
    if (model, options) != (manifest.model, manifest.config):
        raise RecloomError(
            f"{path} was exported from {_told(manifest.model, manifest.config)}, and the run {run.folder} is "
            f"{_told(model, options)}. Nothing was compared or written. Give the run it was exported from "
            f"with --run, or export this one."
        )
    _check_catalog(manifest, run.catalog, path, f"the run {run.folder}")
    if weight_digest(run.recommender.state_dict()) != manifest.weights:
        raise RecloomError(
            f"{path} was exported from another training of {model}: the weights of the run {run.folder} are not "
            "those it was made from. Nothing was compared or written. Export the run again."
        )


def _told(model: str, options: dict[str, Any]) -> str:
    return f"{model}({', '.join(f'{name}={value!r}' for name, value in options.items())})"


@dataclass
class Tally:
    """What was found so far."""

    tolerance: float
    requests: int = 0
    mismatches: int = 0
    ties: int = 0
    difference: float = 0.0
    failures: list[str] = field(default_factory=list)
    expected: list[dict[str, Tensor]] = field(default_factory=list)
    found: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, case: Case, session: Session, reference: Reference, catalog: Catalog) -> None:
        """Run one case through both."""
        try:
            ids, scores = session.run(case.given, case.k)
        except Exception as error:  # onnxruntime raises classes of its own
            self.failures.append(f"{case.name}: {str(error).splitlines()[0]}")
            return
        items = indices(ids, catalog.item_index)
        wanted = reference(*indexed(case.given, catalog))
        result = compare(items, torch.from_numpy(scores), wanted, self.tolerance)
        self.requests += len(items)
        self.mismatches += int(result.wrong.sum())
        self.ties += int(result.tied.sum())
        self.difference = max(self.difference, float(result.difference.max()) if items.numel() else 0.0)
        if result.wrong.any():
            row, place = result.wrong.nonzero()[0].tolist()
            self.failures.append(
                f"{case.name}: place {place + 1} of request {row + 1} is {str(ids[row, place])[:40]!r} with "
                f"score {scores[row, place]:.6g}, expected {_name(catalog, result.expected[row, place])!r}"
            )
        if case.targets is not None:
            self.expected.append(list_metrics(result.expected, case.targets))
            self.found.append(list_metrics(items, case.targets))


def latency(session: Session, cases: list[Case]) -> dict[str, float]:
    """p50 and p95 in milliseconds of one request at a time."""
    singles = [
        {name: array[row : row + 1] for name, array in case.given.items()}
        for case in cases
        for row in range(len(case.given["history"]))
    ][:TIMED]
    spent = []
    for given in (*singles[:10], *singles):  # the first few warm up
        start = time.perf_counter()
        session.run(given, 10)
        spent.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(spent[-len(singles) :], [50, 95]).round(3).tolist()
    return {"p50": p50, "p95": p95}


def report(parity: Parity, num_items: int) -> Table:
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
        "p50, p95 of one request": f"{parity.latency_ms['p50']:.2f} ms, {parity.latency_ms['p95']:.2f} ms",
        "size": f"{parity.bytes / 1e6:.1f} MB",
    }
    for name, value in parity.artefact.items():
        among = f"among all {num_items:,} items, {parity.test_requests:,} test users"
        rows[f"{name} {among}: artefact, recommender"] = f"{value:.4f}, {parity.reference[name]:.4f}"
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


def _means(parts: list[dict[str, Tensor]]) -> dict[str, float]:
    names = parts[0] if parts else ()
    means = {name: float(torch.cat([part[name] for part in parts]).nanmean()) for name in names}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _name(catalog: Catalog, index: Tensor) -> str:
    return catalog.item_ids([int(index)])[0][:40] if index > 0 else ""
