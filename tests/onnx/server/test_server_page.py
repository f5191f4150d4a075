"""docs/server.md is held to the code: its example runs, and it names every option, path and metric."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from recloom_onnx.server.command import serve

PAGE = (Path(__file__).parents[3] / "docs" / "server.md").read_text("utf-8")


def test_the_example_of_the_client_runs(server):
    pytest.importorskip("tritonclient.http")
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    here = block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace('"model"', '"first"')
    names = {"__name__": "example"}
    exec(compile(here, "server.md", "exec"), names)
    assert names["answer"].as_numpy("item_id").shape == (2, 5)


def test_the_page_names_the_options_paths_and_metrics_that_there_are(server):
    options = set(inspect.signature(serve).parameters) - {"artefacts", "port", "provider", "log"}
    assert not [name for name in options if f"`--{name}" not in PAGE and f"--{name}`" not in PAGE]
    assert set(re.findall(r"--(?!no-)(\w+)", PAGE)) <= set(inspect.signature(serve).parameters)
    for path in server.get("/openapi.json").json()["paths"]:
        assert re.sub(r"/versions/.*|/ready$|\{\w+\}.*", "", path) in PAGE, path
    for name in re.findall(r"recloom_\w+", PAGE):
        assert name in server.get("/metrics").text
    assert f"{float(np.finfo(np.float32).min)}" in PAGE
