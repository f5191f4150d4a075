"""Small artefacts with titles, and servers in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO

import polars as pl
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

import httpx
import torch
from recloom.data.catalog import Catalog
from recloom.models import EASE
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact
from warm_python import WarmProcess, WarmPython

SERVE = ("-m", "recloom.cli.main", "serve")
IMPORTS = "recloom_onnx.server.command,recloom_onnx.server.serving,recloom_onnx.server.app,onnxruntime"
IDS = [f"m{number:02}" for number in range(40)]
HOSTILE = '<img src=x onerror="document.title=1">'
TITLES = [f"Film {number} of the Series" for number in range(36)] + [
    "Amélie", "Heat\nand Dust", HOSTILE, "the last one",
]  # fmt: skip
COUNTS = torch.arange(41).flip(0).float()
"""m00 is chosen most."""


def export_titled(path: Path, seed: int) -> Path:
    """A verified EASE of random weights over titled items."""
    catalog = Catalog(pl.DataFrame({"item_id": IDS, "title": TITLES}))
    recommender = EASE(catalog).eval()
    recommender.weights = torch.rand(41, 41, generator=torch.Generator().manual_seed(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    export_artefact(recommender, catalog, COUNTS, path, metrics={"ndcg@10": 0.5})
    assert verify_artefact(path, partial(reference_scores, recommender, COUNTS), catalog).verified
    return path


@pytest.fixture(scope="session")
def titled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artefacts `first` and `second`; they must not be changed."""
    folder = tmp_path_factory.mktemp("titled")
    return {
        name: export_titled(folder / f"{name}.onnx", seed) for seed, name in enumerate(("first", "second"))
    }


@dataclass
class Running:
    """A server, and how it is asked."""

    process: subprocess.Popen[str] | WarmProcess
    out: TextIO
    errors: Path
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return re.search(r"http://\S+", self.said[0])[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **options):
        return httpx.get(self.url + path, timeout=30, **options)

    def post(self, path: str, **options):
        return httpx.post(self.url + path, timeout=30, **options)

    def recommend(self, **asked):
        return self.post("/recommend", json=asked)

    def log(self) -> str:
        return self.errors.read_text("utf-8")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.said += self.out.read().splitlines()
        return self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def warm_server() -> Iterator[WarmPython]:
    """A Python that has imported a server, and forks a process for each command."""
    found = WarmPython(imports=IMPORTS)
    yield found
    found.close()


@pytest.fixture(scope="session")
def serve_at(
    tmp_path_factory: pytest.TempPathFactory, warm_server: WarmPython
) -> Iterator[Callable[..., Running]]:
    """Starts `recloom serve` with these words at a free port; what still runs at the end is ended."""
    every: list[Running] = []

    def start(*words: object, **variables: str) -> Running:
        errors = tmp_path_factory.mktemp("serve") / "errors"
        reading, writing = os.pipe()
        with errors.open("w") as file, open(os.devnull) as nothing:
            process = warm_server.start(
                *SERVE, *map(str, words), "--port", "0",
                env=os.environ | variables, stdin=nothing, stdout=writing, stderr=file,
            )  # fmt: skip
        os.close(writing)
        running = Running(process, os.fdopen(reading), errors)
        every.append(running)
        for line in running.out:
            running.said.append(line.rstrip("\n"))
            if line.startswith("try: "):
                return running
        raise AssertionError(f"the server ended: {running.log()}")

    yield start
    for running in every:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(30)
        running.out.close()


@pytest.fixture(scope="session")
def server(serve_at: Callable[..., Running], titled: dict[str, Path]) -> Running:
    """Two models behind one server, which tests leave running."""
    return serve_at(*titled.values(), "--max_body", "1000000", "--timeout", "5")
