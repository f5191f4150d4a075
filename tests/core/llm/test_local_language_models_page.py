"""docs/local-language-models.md is walked: its recommender is trained, tested, resumed, and refuses an export."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.runs import load

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="the extra transformers is not installed")

PAGE = Path(__file__).parents[3] / "docs" / "local-language-models.md"
FILES = dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', PAGE.read_text("utf-8"), re.M | re.S))
COMMANDS = re.findall(r"^recloom .+$", PAGE.read_text("utf-8"), re.M)


def test_the_page_holds_its_files_and_commands():
    assert [*FILES] == ["said.py", "use.py", "look.py", "convert.py"]
    assert [line.split()[1] for line in COMMANDS] == ["data", "fit", "test", "fit"]
    compile(
        FILES["convert.py"], "convert.py", "exec"
    )  # run where the package is installed, in 30 s; not here


def test_every_step_of_the_page_works(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("models").mkdir()
    Path("models/small").symlink_to(folder)
    made, fitted, tested, resumed = (shlex.split(line)[1:] for line in COMMANDS)
    main(made)
    try:
        runpy.run_path("use.py")
        score, items = capsys.readouterr().out.splitlines()[-2:]
        assert 0 <= float(score.split()[0]) <= 1
        assert len(re.findall(r"'m\d+'", items)) == 5
        runpy.run_path("look.py")
        assert ".lora_A.trained" in capsys.readouterr().out
        assert (fitted[:3], tested) == (["fit", "--model", "said.Said"], ["test", "runs/said"])
        main([*resumed, "--trainer.enable_progress_bar=false"])
        assert "2 epochs" in capsys.readouterr().out
        groups = load("runs/said").recommender.parameter_groups(1.0)
        assert [group["lr"] for group in groups] == [1.0, 0.1]
        with pytest.raises(RecloomError, match="Said searches for its lists, which no exported graph does"):
            load("runs/said").recommender.export()
    finally:
        sys.modules.pop("said", None)
