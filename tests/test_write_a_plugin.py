"""docs/write-a-plugin.md is walked: its files are written, its commands are run in a fresh environment."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import venv
from importlib.metadata import distributions
from pathlib import Path

import pytest
from recloom.hookspecs import __dict__ as hooks
from warm_python import HEAVY, WarmPython

PAGE = Path(__file__).parents[1] / "docs" / "write-a-plugin.md"
COMMANDS = {"recloom": "recloom.cli.main", "pip": "pip._internal.cli.main"}
TESTING = "pytest,_pytest.python,hypothesis,networkx,torch.onnx._internal.exporter._core,onnxscript"
"""What the tests of a recommender import beyond HEAVY."""
NEW = {
    *(
        f"recloom-taste/src/recloom_taste/{name}.py"
        for name in ("together", "margin", "early", "echo", "command", "diary")
    ),
    *(f"recloom-taste/tests/test_{name}.py" for name in ("together", "margin", "early", "echo", "diary")),
}
"""What the page adds to the files of the template."""
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """A new virtual environment that sees the installed packages of this one; nothing is downloaded."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    at = {
        name: Path(sysconfig.get_path(name, "venv", {"base": str(folder)})) for name in ("purelib", "scripts")
    }
    here = sysconfig.get_path("purelib")
    (at["purelib"] / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for name, module in COMMANDS.items():
        script = at["scripts"] / name
        script.write_text(
            f"#!{at['scripts'] / 'python'}\nfrom {module} import main\nraise SystemExit(main())\n"
        )
        script.chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "RECLOOM_"))},
        "PATH": f"{at['scripts']}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_BUILD_ISOLATION": "false",  # pip reads a negative flag's variable as the flag's value
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "PYTEST_ADDOPTS": "-p no:schemathesis",  # it would be imported each time
    }


@pytest.fixture(scope="module")
def python(environment):
    """A warm Python of that environment: its processes see what was installed since."""
    found = WarmPython(shutil.which("python", path=environment["PATH"]), f"{HEAVY},{TESTING}")
    yield found
    found.close()


def shell(
    text: str, folder: Path, environment: dict[str, str], python: WarmPython
) -> subprocess.CompletedProcess[str]:
    """Run the lines of a block until one fails: Python and recloom in the warm Python, other lines in bash."""
    said = ""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["recloom"] or words[:2] == ["python", "-m"]:
            assert not re.search(r"[|&;<>$`*]", line), f"a line for bash alone: {line}"
            words = ["-m", COMMANDS["recloom"], *words[1:]] if words[0] == "recloom" else words[1:]
            done = python.run(*words, cwd=folder, env=environment)
        else:
            done = subprocess.run(
                ["bash", "-c", line], cwd=folder, env=environment, text=True, capture_output=True, timeout=200
            )
        said += done.stdout
        if done.returncode:
            break
    return subprocess.CompletedProcess(text, done.returncode, said, done.stderr)


@pytest.mark.slow
def test_every_step_of_the_page_works(environment, python, tmp_path):
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    assert [kind for kind, _, _ in blocks].count("sh") >= 3
    said = ""
    for kind, title, text in blocks:
        if kind == "sh":
            run = shell(text, tmp_path, environment, python)
            assert run.returncode == 0, f"{text}\n{run.stdout}\n{run.stderr}"
            said += run.stdout
        else:
            assert (kind, bool(title)) == ("python", True), f"a block that no test runs: {text}"
            assert (tmp_path / title).is_file() or title in NEW, f"{title} is not a file of the template"
            (tmp_path / title).write_text(text, encoding="utf-8")
    assert "wrote recloom-taste" in said
    assert len(re.findall(r"\d+ passed", said)) == 4
    assert "failed" not in said
    assert re.search(r"taste +0\.1\.0 +ok +models", said)
    assert re.search(r"Margin +max\(0, margin", said)
    assert re.search(r"^ +\d+  .+$", said, re.M), "the command printed no item"
    assert re.search(r"early@10 +0\.\d+", said)
    assert (tmp_path / "data/diary/interactions.parquet").is_file()
    assert (tmp_path / "data/diary/rejected.parquet").is_file()
    assert list((tmp_path / "runs" / "taste").rglob("*.ckpt"))
    assert "recloom-taste" not in {found.name for found in distributions()}, (
        "it went into the outer environment"
    )


def test_the_page_names_every_hook():
    known = {name for name in hooks if name.startswith("register_")}
    assert len(known) > 5
    assert set(re.findall(r"`(register_\w+)`", PAGE.read_text("utf-8"))) == known
