"""The bar of a fit: one line within the terminal, on the error stream, and nothing where that is no terminal."""

from __future__ import annotations

import io
import re

import numpy as np
import polars as pl
import pytest
from recloom.cli.main import main
from recloom.training import callbacks as training_bar
from recloom.training.callbacks import TrainingBar, columns
from rich.console import Console
from rich.progress import Progress


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in np.repeat(np.arange(40), 6)],
            "item_id": [f"i{n}" for n in np.concatenate([random.permutation(20)[:6] for _ in range(40)])],
            "timestamp": np.tile(np.arange(6), 40),
        }
    )
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", frame)


def words(data, run, *more):
    small = ["--model.recommender.dim=8", "--data.batch_size=16", "--trainer.max_epochs=2"]
    return ["fit", "--model=SASRec", f"--data={data}", f"--run={run}", *small, *more]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize(
    "metrics", ["", "val/ndcg@10 0.3852  train/loss 4.3341", "val/impression_auc 0.5  " * 9]
)
def test_it_is_one_line_of_the_terminal(width, metrics):
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None)
    bar = Progress(*columns(), console=console, expand=True)
    bar.add_task("epoch 12 of 500", total=12_345, completed=123, metrics=metrics)
    console.print(bar.get_renderable())
    (line,) = screen.getvalue().splitlines()
    assert len(line) <= width
    assert "epoch 12 of 500" in line
    assert "123/12345" in line
    if width >= 80 and len(metrics) < 40:
        assert metrics in line


def shown(screen):
    """Lines that stood on the terminal at any time, without the commands that moved them there."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()))


def test_a_fit_and_a_test_show_what_is_done_and_no_number_of_a_version(data, tmp_path, monkeypatch, capsys):
    screen = io.StringIO()
    terminal = Console(file=screen, width=80, force_terminal=True)
    monkeypatch.setattr(training_bar, "Console", lambda stderr: terminal)
    main(words(data, tmp_path / "run"))
    lines = shown(screen)
    assert max(map(len, lines)) <= 80
    for what in ("trying validation", "epoch 1 of 2", "epoch 2 of 2", "validating"):
        assert any(line.startswith(what) for line in lines), what
    assert any(
        re.search(r"^epoch 2 of 2 .* \d/3 .*val/ndcg@10 0\.\d{4}  train/loss \d\.\d{4}$", line)
        for line in lines
    )
    assert "v_num" not in screen.getvalue()
    main(["test", str(tmp_path / "run")])
    assert any(re.match("testing .* 1/1 ", line) for line in shown(screen))
    main(["predict", str(tmp_path / "run")])
    assert any(re.match("ranking .* 1/1 ", line) for line in shown(screen))
    assert not re.search("━|epoch 1", capsys.readouterr().out)


def test_where_nobody_looks_there_is_none(data, tmp_path, capfd):
    main(words(data, tmp_path / "run"))
    out, err = capfd.readouterr()
    assert out.startswith("trained: ")
    assert "epoch 1" not in out + err
    assert "━" not in out + err


def test_it_is_left_out_where_it_is_not_wanted(data, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(TrainingBar, "begin", lambda self, *given: begun.append(given))
    main(words(data, tmp_path / "without", "--trainer.enable_progress_bar=false"))
    assert not begun
    main(words(data, tmp_path / "with"))
    assert begun


def test_in_further_processes_it_is_silent(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(training_bar, "Console", lambda stderr: terminal)
    bar = TrainingBar()
    bar.disable()
    bar.begin("epoch 1", 3)
    bar.count(1), bar.tell({"loss": 1.0}), bar.stop()
    assert bar.bar is None
    bar.enable()
    bar.begin("epoch 1", float("inf"))
    assert bar.bar is not None
    bar.stop()
    assert bar.bar is None
