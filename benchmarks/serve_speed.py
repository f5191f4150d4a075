"""What ids, masks and the top-k in the file cost, beside a bare session, eager PyTorch and numpy; one thread.

    OMP_NUM_THREADS=1 python benchmarks/serve_speed.py        writes serve_speed.json beside this file

SASRec, d = 64, 2 layers, L = 50, with random weights (speed does not depend on them), histories of 50 known items,
k = 10. `artefact` takes raw ids and gives raw ids; `bare` is onnxruntime on encoder, MatMul and TopK, indices in
and out, without masks; `eager` is the same in PyTorch; `numpy` ranks the scores of an ONNX session by
argpartition, `argsort` by sorting them whole. All take turns, in a new random order each time, since what ran before
leaves the caches warm for one and cold for another; a figure is the median over all calls of a size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import torch
from recloom.batch import Batch
from recloom.data import Catalog
from recloom_onnx.artifact.session import Session
from recloom_onnx.exporting.export import export_artefact
from recloom_pretrain.sequence.sasrec import SASRec
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SIZES = (3_416, 10_000, 100_000)
BATCHES = (1, 32)
LENGTH, K = 50, 10


class Scores(nn.Module):
    """(B, 50) item indices to (B, N) scores, and no more."""

    def __init__(self, model: SASRec) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("vectors", model.item_vectors()[1:].T.contiguous())

    def forward(self, history: Tensor) -> Tensor:
        return self.model.query(Batch.of(history)) @ self.vectors


class Best(nn.Module):
    """The same with the top-k."""

    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        return torch.topk(self.scores(history), K)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20, help="of each catalogue and batch size")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            made = prepared(size, Path(folder))
            for batch in BATCHES:
                rows.append(measured(made, size, batch, given.seconds) | {"file": made["file"]})
                print(json.dumps(rows[-1]), flush=True)
    result = {
        "what": (__doc__ or "").splitlines()[0],
        "protocol": "SASRec d=64, 2 layers, L=50, random weights, k=10, one thread; ms, median, in random turns",
        "rows": rows,
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("recloom-onnx", "onnxruntime", "torch", "numpy")},
    }
    (HERE / "serve_speed.json").write_text(json.dumps(result, indent=2) + "\n")


def prepared(size: int, folder: Path) -> dict[str, Any]:
    """The artefact and what it is compared with."""
    torch.manual_seed(0)
    ids = [f"item {n:06}" for n in range(size)]
    catalog = Catalog(pl.DataFrame({"item_id": ids}))
    model = SASRec(catalog, dim=64, max_len=LENGTH).eval()
    path = folder / "model.onnx"
    export_artefact(model, catalog, torch.ones(size + 1), path)
    start = time.perf_counter()
    session = Session(path, threads=1, allow_unverified=True)
    loaded = time.perf_counter() - start
    scores = Scores(model).eval()
    return {
        "ids": np.array(ids, dtype=object),
        "session": session,
        "bare": exported(Best(scores), folder / "bare.onnx"),
        "scores": exported(scores, folder / "scores.onnx"),
        "eager": Best(scores).eval(),
        "file": {"bytes": path.stat().st_size, "seconds to load": round(loaded, 3)},
    }


def exported(module: nn.Module, path: Path) -> onnxruntime.InferenceSession:
    history = torch.ones(2, LENGTH, dtype=torch.long)
    with torch.no_grad():
        torch.onnx.export(
            module, (history,), path, dynamo=True, opset_version=20, verbose=False,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), input_names=["history"],
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measured(made: dict[str, Any], size: int, batch: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of each way, and their ratios."""
    random = np.random.default_rng(0)
    index = random.integers(0, size, (batch, LENGTH))
    history, raw = index + 1, {"history": made["ids"][index]}
    tensor = torch.from_numpy(history)

    def numpy_ranks() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        (scores,) = made["scores"].run(None, {"history": history})
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        order = np.take_along_axis(scores, best, 1).argsort(1)[:, ::-1]
        best = np.take_along_axis(best, order, 1)
        return np.take_along_axis(scores, best, 1), best

    def sorted_whole() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        (scores,) = made["scores"].run(None, {"history": history})
        best = np.argsort(-scores, axis=1)[:, :K]
        return np.take_along_axis(scores, best, 1), best

    def eager() -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            found: tuple[Tensor, Tensor] = made["eager"](tensor)
            return found

    ways: dict[str, Callable[[], Any]] = {
        "artefact": lambda: made["session"].run(raw, K),
        "bare": lambda: made["bare"].run(None, {"history": history}),
        "eager": eager,
        "numpy": numpy_ranks,
        "argsort": sorted_whole,
    }
    best = {name: np.asarray(way()[0 if name != "artefact" else 1]) for name, way in ways.items()}
    for name in (
        "eager",
        "numpy",
        "argsort",
    ):  # the artefact leaves out the history, so its scores may be lower
        assert np.allclose(best[name], best["bare"], atol=1e-4), name
    assert (best["artefact"] <= best["bare"] + 1e-4).all()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name in random.permutation(list(ways)):
            start = time.perf_counter()
            ways[name]()
            spent[name].append(1000 * (time.perf_counter() - start))
    found = {name: round(statistics.median(values), 3) for name, values in spent.items()}
    return {
        "items": size,
        "batch": batch,
        "ms": found,
        "p95 ms of the artefact": round(float(np.percentile(spent["artefact"], 95)), 3),
        "artefact / bare": round(found["artefact"] / found["bare"], 3),
        "artefact / eager": round(found["artefact"] / found["eager"], 3),
        "numpy / artefact": round(found["numpy"] / found["artefact"], 2),
        "argsort / artefact": round(found["argsort"] / found["artefact"], 2),
        "calls": len(spent["artefact"]),
    }


if __name__ == "__main__":
    main()
