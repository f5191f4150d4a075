"""docs/serve.md is held to the code: its example runs, and it names every input, output and field."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from pathlib import Path

import polars as pl
import torch
from recloom.data.catalog import Catalog
from recloom.models import EASE
from recloom_onnx.artifact.manifest import Manifest, Parity
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.exporting.ports import INPUTS, OUTPUTS

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text("utf-8")


def test_the_example_runs(tmp_path, monkeypatch):
    ids = [f"m{n:03}" for n in range(1, 61)]
    catalog = Catalog(pl.DataFrame({"item_id": ids}))
    recommender = EASE(catalog).eval()
    recommender.weights = torch.rand(61, 61, generator=torch.Generator().manual_seed(0))
    counts = 61 - torch.arange(61).float()  # m001 is chosen most
    export_artefact(recommender, catalog, counts, tmp_path / "model.onnx")
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block, {})
    lines = [ast.literal_eval(line) for line in printed.getvalue().splitlines()]
    assert [len(line) for line in lines] == [5, 5, 5]
    assert not {"m001", "m017", "m003"} & {item for item, _ in lines[0]}
    assert lines[2] == [("m001", 60.0), ("m002", 59.0), ("m004", 57.0), ("m005", 56.0), ("m006", 55.0)]


def test_the_page_names_every_input_output_and_field():
    named = set(re.findall(r"`(\w+)`", PAGE))
    wanted = {
        *INPUTS,
        "history_event",
        "context",
        *(port.name for port in OUTPUTS),
        *Manifest.model_fields,
        *Parity.model_fields,
    }
    assert len(wanted) > 30
    assert not wanted - named


def test_the_page_is_linked():
    docs = Path(__file__).parents[2] / "docs"
    for name in ("cli.md", "architecture.md"):
        assert "(serve.md)" in (docs / name).read_text("utf-8"), name
