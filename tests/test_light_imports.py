"""What people wait for at every start stays light: no torch, no lightning, and little time."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys

import pytest
from warm_python import WarmPython

HEAVY = ("torch", "lightning", "onnxruntime", "transformers", "sklearn")
NO_HELP_NEEDS = (*HEAVY, "numpy", "polars", "pyarrow", "rich", "httpx")
"""Signatures and docstrings say all of a help; pydantic may be loaded, since defaults of options are its models."""
RUNS = 5
"""A machine may be busy: the quickest of so many runs counts, in CPU time."""

LOADED = """
import contextlib, io, json, sys
from recloom.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({args!r})
print(json.dumps(sorted(sys.modules)))
"""


def loaded(code: str, folder, python: WarmPython | None = None) -> set[str]:
    """What a new process has loaded after this code; one of `python` begins with the few modules that it has."""
    if python is None:
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, text=True, capture_output=True)
    else:
        done = python.run("-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def light():
    """A Python that has imported the command line and nothing else."""
    found = WarmPython(imports="recloom.cli.main")
    yield found
    found.close()


@pytest.mark.parametrize(
    "args",
    [
        ["--help"], ["--version"], ["plugins"], ["plugins", "--json"], ["data"], ["data", "list"],
        ["llm"], ["llm", "show", "--help"],
        ["recommend", "--help"], ["demo", "--help"], ["export", "--help"],
        ["data", "check", "log.csv"], ["data", "check", "made"],
        ["data", "prepare", "auto", "--path", "log.csv", "--out", "new"], ["new-plugin", "taste"], ["no-such-command"],
        ["export", "no-such-run"], ["export", "log.csv", "--out", "no-such-folder/model.onnx"],
        ["export", "log.csv", "--max_loss", "5"], ["verify", "no-such.onnx", "--run", "log.csv"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_light_command_loads_nothing_heavy(args, tmp_path, light):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\na,x,1\na,y,2\nb,x,3\nb,y,4\n")
    if "made" in args:
        prepare = ["data", "prepare", "auto", "--path", "log.csv", "--out", "made"]
        loaded(LOADED.format(args=prepare), tmp_path, light)
        assert (tmp_path / "made" / "dataset.json").is_file()
    modules = loaded(LOADED.format(args=args), tmp_path, light)
    assert "recloom.cli.main" in modules
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("words", ["", "compare", "serve", "graph pagerank", "export"])
def test_help_needs_no_library_of_numbers_or_tables(words, tmp_path, light):
    found = loaded(LOADED.format(args=[*words.split(), "--help"]), tmp_path, light)
    assert not found & set(NO_HELP_NEEDS)


def test_a_heavy_command_would_be_noticed(tmp_path):
    assert "torch" in loaded(LOADED.format(args=["doctor"]), tmp_path)


def test_import_recloom_loads_pluggy_and_the_standard_library(tmp_path):
    modules = loaded("import json, sys, recloom; print(json.dumps(sorted(sys.modules)))", tmp_path)
    before = loaded("import json, sys; print(json.dumps(sorted(sys.modules)))", tmp_path)
    roots = {name.partition(".")[0] for name in modules - before}
    assert "pluggy" in roots
    assert roots - set(sys.stdlib_module_names) - {"__mp_main__"} == {"recloom", "pluggy"}


def test_import_recloom_takes_less_than_60_ms_beyond_pluggy_and_the_standard_library():
    line = re.compile(r"import time: +(\d+) \| +\d+ \| +recloom(?:\.\w+)*$", re.M)
    spent = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "import recloom"], text=True, capture_output=True
        )
        own = [int(microseconds) for microseconds in line.findall(done.stderr)]
        assert len(own) > 3
        spent.append(sum(own) / 1000)
    assert min(spent) < 60


def test_help_answers_in_half_a_second():
    """As installed: not compiled anew at every start. On a slow machine, five times what some of Python's own take."""
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds(*words):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, *words], text=True, capture_output=True, env=compiled)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

    spent = []
    for _ in range(RUNS):
        used, shown = seconds("-m", "recloom.cli.main", "--help")
        assert shown.startswith("usage: recloom")
        python, _ = seconds("-c", "import asyncio, email.message, http.client, json, logging, unittest")
        spent.append((used, python))
        if used < max(0.5, 5 * python):
            return
    raise AssertionError(spent)
