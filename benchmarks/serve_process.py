"""A server in a process of its own, an artefact for it, and its clients; for serve_load.py and serve_faults.py."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CLIENTS = HERE / "serve_clients.py"
LIBRARIES = ("recloom-onnx", "onnxruntime", "fastapi", "starlette", "uvicorn", "h11", "pydantic", "numpy")


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def post(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body."""
        return self.send(urllib.request.Request(self.url(path), body, method="POST"))

    def get(self, path: str) -> tuple[int, bytes]:
        return self.send(urllib.request.Request(self.url(path)))

    def send(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=60) as found:
                return found.status, found.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def metric(self, pattern: str) -> float:
        """The sum of the metrics whose line begins with the pattern."""
        text = self.get("/metrics")[1].decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(pattern, line))

    def megabytes(self) -> float:
        return round(self.metric("process_resident_memory_bytes") / 1e6, 1)


@contextlib.contextmanager
def served(*words: object, token: str | None = None) -> Iterator[Served]:
    """`recloom serve` with these words at a free port; ended afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "recloom.cli.main", "serve", *map(str, words), "--port", "0"]
        environment = os.environ | ({"BENCH_TOKEN": token} if token else {})
        with log.open("w") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        try:
            assert process.stdout
            port = re.search(r"http://[^:]+:(\d+)", process.stdout.readline())
            if port is None:
                raise SystemExit(f"the server did not start: {log.read_text()}")
            yield Served(process, int(port[1]), log)
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)


def clients(port: int, items: int, **options: object) -> subprocess.Popen[str]:
    """Clients that have begun."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(CLIENTS), str(port), "--items", str(items), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What clients have seen, when they have ended."""
    found: dict[str, Any] = json.loads(process.communicate()[0])
    return found


def artefact(path: Path, items: int, dim: int = 64, seed: int = 0) -> Path:
    """A verified model of random vectors: the mean of the last 50 items asks for the closest."""
    import polars as pl
    import torch
    from recloom.batch import Batch
    from recloom.data import Catalog
    from recloom.recommender import VectorRecommender
    from recloom_onnx.exporting.export import export_artefact
    from recloom_onnx.verification.reference import reference_scores
    from recloom_onnx.verification.verify import verify_artefact

    class Mean(VectorRecommender):
        """The mean of the vectors of a history."""

        def __init__(self, catalog: Catalog, max_len: int = 50) -> None:
            super().__init__(catalog)
            self.max_len = max_len
            self.table = torch.nn.Embedding(self.num_items + 1, dim, padding_idx=0)

        def item_vectors(self) -> torch.Tensor:
            return self.table.weight

        def query(self, batch: Batch) -> torch.Tensor:
            history = batch.history[:, -self.max_len :]
            return self.table(history).sum(1) / (history > 0).sum(1, keepdim=True).clamp(min=1)

    torch.manual_seed(seed)
    ids = [f"i{number}" for number in range(items)]
    catalog = Catalog(pl.DataFrame({"item_id": ids, "title": [f"Title {one}" for one in ids]}))
    recommender = Mean(catalog).eval()
    counts = torch.arange(items + 1).flip(0).float()
    export_artefact(recommender, catalog, counts, path)
    parity = verify_artefact(path, partial(reference_scores, recommender, counts), catalog)
    if not parity.verified:
        raise SystemExit(f"the artefact does not equal its model: {parity.failures}")
    return path


def circumstances(load: tuple[float, ...], settings: dict[str, Any]) -> dict[str, Any]:
    """Machine, versions, date and settings."""
    return {
        "settings": settings,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load_at_start": load[0]},
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "date": str(date.today()),
    }
