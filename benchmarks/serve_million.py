"""A million items of 128 dimensions: one file that scores all of them, and a query encoder beside an index.

    OMP_NUM_THREADS=1 python benchmarks/serve_million.py [--items 1000000] [--dim 128] [--recall 0.95]

The model asks with the mean of the vectors of a history. Vectors are drawn around 1,000 normal centres, with normal
noise of each `--spreads` in turn, and a history is around one centre: the more noise, the less an index can use. The
item that is held out is one of the exact ten best. Both artefacts are verified over 200 such requests, of whose
NDCG@10 the index may lose what its `--recall` leaves out; times are those of `Session.recommend` with histories of 20,
k = 10, one thread, the artefacts in turn. `resident_mb` is what loading the artefact and answering adds to a process
of its own. Writes serve_million.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from recloom.batch import Batch
from recloom.data import Catalog
from recloom.recommender import VectorRecommender
from recloom_onnx.artifact.session import Session
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact
from serve_process import circumstances

CENTRES = 1000
LENGTH, REQUESTS, ROWS, K = 20, 200, 50, 10
BATCHES = (1, 32)
LOADED = """
import json, sys, time
import psutil
from recloom_onnx.artifact.session import Session
before, begun = psutil.Process().memory_info().rss, time.perf_counter()
session = Session(sys.argv[1], threads=1)
seconds = time.perf_counter() - begun
session.recommend([["i1", "i2"]], k=10)
more = psutil.Process().memory_info().rss - before
print(json.dumps({"load_seconds": round(seconds, 2), "resident_mb": round(more / 1e6)}))
"""


class Mean(VectorRecommender):
    """The mean of the vectors of a history."""

    def __init__(self, catalog: Catalog, vectors: torch.Tensor) -> None:
        super().__init__(catalog)
        self.max_len = LENGTH
        self.table = torch.nn.Embedding.from_pretrained(vectors, padding_idx=0)

    def item_vectors(self) -> torch.Tensor:
        return self.table.weight

    def query(self, batch: Batch) -> torch.Tensor:
        history = batch.history[:, -self.max_len :]
        return self.table(history).sum(1) / (history > 0).sum(1, keepdim=True).clamp(min=1)


def vectors(items: int, dim: int, spread: float, draw: torch.Generator) -> torch.Tensor:
    """(items + 1, dim), the first of them padding; item n is around centre n % CENTRES."""
    found = torch.randn(items + 1, dim, generator=draw)
    found.mul_(spread).add_(torch.randn(CENTRES, dim, generator=draw)[torch.arange(items + 1) % CENTRES])
    found[0] = 0
    return found


def requests(model: Mean, draw: torch.Generator) -> Iterator[Batch]:
    """Histories of LENGTH different items around one centre, and one of the ten that are best for them."""
    items, nobody = model.num_items, torch.zeros(model.num_items + 1)
    free, none = torch.ones(ROWS, items, dtype=torch.bool), torch.zeros(ROWS, 0, dtype=torch.int64)
    for _ in range(REQUESTS // ROWS):
        steps = torch.stack([torch.randperm(items // CENTRES - 1, generator=draw) for _ in range(ROWS)])
        first = torch.randint(1, CENTRES, (ROWS, 1), generator=draw)
        batch = Batch.of(first + CENTRES * steps[:, :LENGTH])
        with torch.inference_mode():
            best = reference_scores(model, nobody, batch, none, free).topk(K).indices + 1
        yield replace(batch, labels=best.gather(1, torch.randint(0, K, (ROWS, 1), generator=draw)))


def measure(items: int, dim: int, spread: float, recall: float, folder: Path) -> dict[str, Any]:
    """Both artefacts of one set of vectors."""
    draw = torch.Generator().manual_seed(0)
    catalog = Catalog(pl.DataFrame({"item_id": [f"i{number}" for number in range(items)]}))
    model = Mean(catalog, vectors(items, dim, spread, draw)).eval()
    counts = torch.arange(items + 1).flip(0).float()
    asked = list(requests(model, draw))
    rows: dict[str, Any] = {}
    for name, above in (("one file", None), ("index", 1)):
        path, begun = folder / f"{name.replace(' ', '-')}.onnx", time.perf_counter()
        manifest = export_artefact(
            model, catalog, counts, path, index_above=above, index_recall=recall, requests=asked
        )
        exported = time.perf_counter()
        reference = partial(reference_scores, model, counts)
        parity = verify_artefact(path, reference, catalog, asked, max_loss=1 - recall)
        rows[name] = {
            "export_seconds": round(exported - begun, 1),
            "verify_seconds": round(time.perf_counter() - exported, 1),
            "verified": parity.verified,
            "failures": parity.failures,
            "largest_difference": parity.max_difference,
            "mismatches": parity.mismatches,
            "ndcg@10": parity.artefact["ndcg@10"],
            "ndcg_of_the_recommender": parity.reference["ndcg@10"],
            "loss": parity.loss,
            "first_ten_in_common": parity.overlap,
            "megabytes": round(parity.bytes / 1e6, 1),
            "index": manifest.index.model_dump() if manifest.index else None,
        }
        print(name, json.dumps(rows[name]), flush=True)
        command = [sys.executable, "-c", LOADED, str(path)]
        rows[name] |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    del model
    sessions = {name: Session(folder / f"{name.replace(' ', '-')}.onnx", threads=1) for name in rows}
    histories = [[f"i{one - 1}" for one in row] for batch in asked for row in batch.history.tolist()]
    for batch in BATCHES:
        spent: dict[str, list[float]] = {name: [] for name in sessions}
        for turn in range(200 // batch + 3):
            some = [histories[(turn * batch + row) % REQUESTS] for row in range(batch)]
            for name, session in sessions.items():
                begun = time.perf_counter()
                session.recommend(some, k=K)
                if turn > 2:  # the first few warm up
                    spent[name].append(1000 * (time.perf_counter() - begun))
        for name, times in spent.items():
            cuts = np.percentile(times, [50, 95]).round(2).tolist()
            rows[name][f"ms_batch_{batch}"] = dict(zip(("p50", "p95"), cuts, strict=True))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--spreads", type=float, nargs="+", default=[0.5, 2.0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    load, found = os.getloadavg(), {}
    for spread in given.spreads:
        with tempfile.TemporaryDirectory() as folder:
            found[f"spread {spread:g}"] = measure(given.items, given.dim, spread, given.recall, Path(folder))
    record = {"results": found, "seed": 0, **circumstances(load, vars(given))}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
