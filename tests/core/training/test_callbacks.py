"""The bar of a fit: within the terminal, on the error stream, gone afterwards, and none where that is no terminal."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from lightning.pytorch.callbacks.progress import rich_progress
from recloom.cli.main import main
from recloom.training import callbacks
from recloom.training.callbacks import TrainingBar
from rich.console import Console


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


def shown(screen):
    """Lines that stood on the terminal at any time, without the commands that moved them there."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()))


def left(screen):
    """What stands on the terminal after all: its commands carried out, blank lines left out."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", screen.getvalue()):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif (up := re.fullmatch(r"\x1b\[(\d*)A", part)) is not None:
            row = max(0, row - int(up[1] or 1))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith(("\x1b", "\r")):
            lines[row] += part
    return [line for line in lines if line.strip()]


@pytest.fixture(params=[60, 100])
def screen(request, monkeypatch):
    """A terminal of so many columns, on the error stream."""
    found = io.StringIO()
    found.width = request.param
    terminal = Console(file=found, width=request.param, force_terminal=True)
    monkeypatch.setattr(callbacks, "Console", lambda stderr: terminal)
    monkeypatch.setattr(rich_progress, "get_console", lambda: terminal)
    monkeypatch.setattr(rich_progress, "_IS_INTERACTIVE", True)  # every change is shown, not ten a second
    return found


def test_a_fit_and_a_test_show_what_is_done_and_leave_nothing_behind(data, tmp_path, screen, capsys):
    main(words(data, tmp_path / "run"))
    lines = shown(screen)
    assert max(map(len, lines)) <= screen.width
    for what in ("Sanity Checking", "Epoch 0/1", "Epoch 1/1", "Validation"):
        assert any(line.startswith(what) for line in lines), what
    assert any(re.search(r"^Epoch 1/1 .* 3/3 ", line) for line in lines)
    if screen.width == 100:
        assert any(re.search(r"train/loss: \d\.\d{4}", line) for line in lines)
        assert any(re.search(r"val/ndcg@10: 0\.\d{4}", line) for line in lines)
    assert "v_num" not in screen.getvalue()
    assert left(screen) == []
    main(["test", str(tmp_path / "run")])
    assert any(re.match("Testing .* 1/1 ", line) for line in shown(screen))
    main(["predict", str(tmp_path / "run")])
    assert any(re.match("Predicting .* 1/1 ", line) for line in shown(screen))
    assert left(screen) == []
    assert not re.search("━|Epoch 1", capsys.readouterr().out)


@pytest.mark.parametrize("screen", [80], indirect=True)
def test_a_fit_that_fails_leaves_nothing_behind(data, tmp_path, screen, capsys):
    with pytest.raises(SystemExit):
        main(words(data, tmp_path / "run", "--model.lr=1e30"))
    assert "the loss became" in capsys.readouterr().err
    assert any(line.startswith("Epoch") for line in shown(screen))
    assert left(screen) == []


def test_where_nobody_looks_there_is_none(data, tmp_path, capfd):
    main(words(data, tmp_path / "run"))
    out, err = capfd.readouterr()
    assert out.startswith("trained: ")
    assert "Epoch" not in out + err
    assert "━" not in out + err


@pytest.mark.parametrize("screen", [80], indirect=True)
def test_it_is_left_out_where_it_is_not_wanted(data, tmp_path, screen):
    main(words(data, tmp_path / "without", "--trainer.enable_progress_bar=false"))
    assert screen.getvalue() == ""


@pytest.mark.parametrize("screen", [80], indirect=True)
def test_in_further_processes_it_is_silent(screen):
    bar = TrainingBar()
    assert bar.is_enabled
    bar.setup(SimpleNamespace(is_global_zero=False), None, "fit")
    assert bar.is_disabled
