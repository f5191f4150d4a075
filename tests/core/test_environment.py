"""`recloom plugins` and `recloom doctor`."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from recloom.cli import environment
from recloom.cli.environment import CHECKED, HOOKS
from recloom.cli.main import main
from recloom.plugins import installed


def test_plugins_shows_a_row_for_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    main(["plugins"])
    shown = capsys.readouterr().out
    heading, *rows = shown.splitlines()
    assert heading.split() == ["plugin", "version", "state", "hooks"]
    assert [row.split()[0] for row in rows] == [entry.name for entry in installed()]
    core = rows[0].split()
    assert core[1:3] == [version("recloom"), "ok"]
    assert {"models", "losses", "metrics", "readers", "commands"} <= set(core[3:])


def test_plugins_as_json(capsys):
    main(["plugins", "--json"])
    rows = {row["plugin"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [entry.name for entry in installed()]
    assert rows["graph"] == {
        "plugin": "graph", "version": version("recloom-graph"), "state": "ok",
        "hooks": ["models", "modules", "losses", "prompts", "commands"],
    }  # fmt: skip
    assert {hook for row in rows.values() for hook in row["hooks"]} <= {
        h.removeprefix("register_") for h in HOOKS
    }


def test_doctor_names_versions_threads_and_devices(capsys):
    main(["doctor"])
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0].startswith("python 3.")
    assert lines[0].endswith("cores")
    for name in ("recloom", "torch", "lightning", "polars"):
        assert f"{name:24}{version(name)}" in lines
    assert len([line for line in lines if line.split()[0] in CHECKED]) >= len(CHECKED)
    assert "torch uses 1 threads (set OMP_NUM_THREADS), no CUDA device" in shown
    assert "onnxruntime providers: " in shown


def test_doctor_says_what_is_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(environment, "_version", lambda name: "-" if name == "peft" else "1.0")
    monkeypatch.setattr(environment, "CHECKED", ("peft", "torch"))
    main(["doctor"])
    assert f"{'peft':24}-\n{'torch':24}1.0\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("both", "warned"), [({"onnxruntime", "onnxruntime-gpu"}, True), ({"onnxruntime"}, False), (set(), False)]
)
def test_doctor_warns_of_two_wheels_of_onnxruntime(monkeypatch, capsys, both, warned):
    monkeypatch.setattr(environment, "_version", lambda name: "1.31.1" if name in both else "-")
    main(["doctor"])
    assert ("both installed, and the one installed last wins" in capsys.readouterr().out) is warned
