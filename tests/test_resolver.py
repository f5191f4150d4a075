"""Every package with all its extras has a solution of wheels alone, for each Python that is promised."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
SOURCE_ONLY = ("rouge-score",)
"""Published as a source archive alone; it is pure Python, so any Python builds it."""
UNREACHABLE = re.compile(
    r"Failed to fetch|Could not connect|error sending request|dns error|timed out|timeout", re.I
)


def packages() -> dict[str, list[str]]:
    """The names of all packages, with the extras of each; `cpu` and `gpu` are asked together, since pip can have
    both: their files overlap, but their versions do not exclude each other, so each of them has a solution too."""
    found = {}
    for path in sorted(ROOT.glob("packages/*/pyproject.toml")):
        project = tomllib.loads(path.read_text("utf-8"))["project"]
        extras = ",".join(project.get("optional-dependencies", {}))
        found[project["name"]] = f"{project['name']}[{extras}] @ {path.parent.as_uri()}"
    assert len(found) >= 5
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """Exit status, requirements and messages for each version; all are asked at once."""
    inside = Path(sysconfig.get_path("scripts")) / "uv"
    uv = str(inside) if inside.exists() else shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("resolver")
    (folder / "asked.in").write_text("\n".join(packages().values()))
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += [word for name in SOURCE_ONLY for word in ("--no-binary", name)]
    running = {
        version: subprocess.Popen(
            [*command, "--python-version", version, str(folder / "asked.in")], cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"UV_HTTP_TIMEOUT": "20"},
        )
        for version in VERSIONS
    }  # fmt: skip
    return {
        version: (lambda said: (process.returncode, *said))(process.communicate())
        for version, process in running.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_all_packages_with_all_extras_have_wheels(version, answers):
    """One solution for all of them together, which is a solution for each."""
    status, found, said = answers[version]
    if status and UNREACHABLE.search(said):
        pytest.skip(f"no package registry answers: {said.strip().splitlines()[-1][:200]}")
    assert status == 0, said
    names = {line.partition("==")[0].partition(" ")[0] for line in found.splitlines()}
    assert {
        "torch",
        "lightning",
        "polars",
        "onnxruntime",
        "transformers",
        "torch-geometric",
        *packages(),
    } <= names
    assert ("dgl" in names) == (version == "3.11"), "DGL is asked of the Pythons that it has wheels for"
