"""The OpenAPI document, and a short run of schemathesis against it."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_the_document_holds_every_route_and_its_bodies(server):
    found = server.get("/openapi.json").json()
    assert {"/recommend", "/titles", "/models", "/metrics", "/v2", "/v2/models/{model}/infer"} <= set(
        found["paths"]
    )
    assert {"RecommendRequest", "InferRequest", "InputTensor", "Problem", "RecommendResponse"} <= set(
        found["components"]["schemas"]
    )
    for verbs in found["paths"].values():
        for operation in verbs.values():
            assert operation["summary"]
            assert "422" not in operation["responses"]
    assert "securitySchemes" not in found["components"]


def test_schemathesis_finds_no_answer_that_the_document_does_not_promise(server, tmp_path):
    pytest.importorskip("schemathesis")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{server.url}/openapi.json",
        "--phases",
        "fuzzing",
    ]
    command += [
        "--max-examples",
        "4",
        "--seed",
        "1",
        "--checks",
        checks,
        "--no-color",
        "--generation-database",
        "none",
    ]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "/recommend" in server.log()
    assert server.get("/v2/health/ready").status_code == 200
    assert '"event": "error"' not in server.log()
