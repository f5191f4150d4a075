"""Which epoch of a fit is kept, tested and served: the best by what is watched, whichever way that is better."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from recloom.errors import RecloomError
from recloom.fitting.fit import run_command
from recloom.fitting.lightning_cli import how_far
from recloom.fitting.task_cli import TaskCLI
from recloom.run_folder import best_checkpoint, checkpoint_of
from recloom.training.callbacks import EarlyStop
from recloom.training.checkpoint import RunCheckpoint, read_checkpoint
from torch import tensor

WORDS = [
    "--model.recommender.dim=8", "--model.lr=0.1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu",
    "--data.batch_size=64",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    """Nothing can be learnt from it, so that measures rise and fall at random."""
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n // 6}" for n in range(240)],
            "item_id": [f"i{n}" for n in np.random.default_rng(0).integers(0, 25, 240)],
            "timestamp": np.tile(np.arange(6), 40),
        }
    )
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", frame)


def fitted(data, run, *more):
    """The command line after a fit, and what it wrote: each epoch's value of a metric, best epoch and score."""
    line = run_command(["fit", "--model=SASRec", f"--data={data}", f"--run={run}", *WORDS, *more])
    rows = list(csv.DictReader((run / "logs" / "version_0" / "metrics.csv").open()))
    kept = read_checkpoint(run / "checkpoints" / "best.ckpt")["epoch"]
    last = read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"]
    return SimpleNamespace(
        line=line, kept=kept, last=last, record=json.loads((run / "run.json").read_text()),
        curve=lambda name: [float(row[name]) for row in rows if row.get(name)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "watched", "better"),
    [
        (["--model.metrics=[recall@3,gini@3]"], "val/recall@3", np.argmax),
        (["--checkpoint.monitor=train/loss", "--checkpoint.mode=min"], "train/loss", np.argmin),
    ],
)
def test_the_best_epoch_by_what_is_watched_is_kept(data, tmp_path, more, watched, better, capsys):
    found = fitted(data, tmp_path / "run", "--trainer.max_epochs=5", *more)
    curve = found.curve(watched)
    assert len(curve) == 5
    assert min(curve) < max(curve)
    best = curve[better(curve)]
    assert curve[found.kept] == pytest.approx(best)
    assert found.record["best"] == pytest.approx(best, rel=1e-5)
    assert (found.last, best_checkpoint(tmp_path / "run").name) == (4, "best.ckpt")
    assert {one.name for one in (tmp_path / "run" / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (
        not found.line.trainer.checkpoint_callback._enable_version_counter
    )  # a resumed fit writes best.ckpt too
    assert found.line.usual.keys() == found.line.defaults.keys()
    assert f", 5 epochs, best {watched} {best:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "watched", "better"),
    [
        (["--model.metrics=[gini@3,ndcg@10]"], "val/ndcg@10", np.argmax),
        (["--model.metrics=[gini@3,ndcg@3]"], "val/gini@3", np.argmin),
    ],
)
def test_training_ends_so_many_epochs_after_the_best_one(data, tmp_path, more, watched, better, capsys):
    words = [
        "--trainer.max_epochs=30",
        "--early_stopping.patience=2",
        "--early_stopping.patience_steps=0",
        *more,
    ]
    found = fitted(data, tmp_path / "run", *words)
    curve = found.curve(watched)
    assert found.last == len(curve) - 1 == better(curve) + 2
    assert found.kept == better(curve)
    assert f", {len(curve)} epochs, best {watched}" in capsys.readouterr().out


def test_how_far_a_training_went():
    watcher = RunCheckpoint(monitor="val/x", mode="max")
    watcher.best_model_score = tensor(0.25)
    other = ModelCheckpoint(monitor="train/x")  # one that was added has no say
    other.best_model_score = tensor(9.0)
    trainer = SimpleNamespace(
        current_epoch=3,
        global_step=12,
        max_steps=-1,
        max_epochs=9,
        checkpoint_callbacks=[other, watcher],
        callbacks=[],
    )
    assert how_far(trainer) == ", 3 epochs, best val/x 0.2500"
    trainer.max_epochs = 3
    assert how_far(trainer) == ", 3 epochs, best val/x 0.2500, stopped by --trainer.max_epochs 3"
    trainer.max_steps = 12
    assert how_far(trainer) == ", 3 epochs, best val/x 0.2500, stopped by --trainer.max_steps 12"
    trainer.callbacks = [EarlyStop(monitor="val/x")]
    trainer.callbacks[0].stopped_epoch = 3
    assert ", best val/x 0.2500, stopped early: val/x had not" in how_far(trainer)
    watcher.best_model_score, trainer.callbacks, trainer.max_steps, trainer.max_epochs = None, [], -1, 9
    assert how_far(trainer) == ", 3 epochs"
    trainer.current_epoch = 0
    assert how_far(trainer) == ""


def test_a_task_says_what_is_watched_and_which_way_is_better():
    line = object.__new__(TaskCLI)
    line.model_class = SimpleNamespace(monitor="val/{metric}", mode="min")
    assert line.watched(SimpleNamespace(model=SimpleNamespace(metric="loss"))) == ("val/loss", "min")


@pytest.mark.parametrize(("given", "seed"), [("true", 7), ("false", 0), ("5", 5)])
def test_the_seed_of_the_data_is_that_of_the_run(data, tmp_path, monkeypatch, given, seed):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")  # what `true` stands for, instead of a number drawn anew
    words = ["fit", "--model=Popularity", f"--data={data}", f"--run={tmp_path / 'run'}"]
    line = run_command([*words, f"--seed_everything={given}"])
    assert line.datamodule.seed == seed
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seed_everything"]
    assert int(kept) == seed  # so that a fit that is resumed draws the same batches


def test_the_checkpoint_of_a_run_is_its_best_else_its_last(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(
        RecloomError, match=r"is not a trained run: it holds no checkpoints/best\.ckpt or last\.ckpt"
    ):
        checkpoint_of(tmp_path)
    for name in ("last.ckpt", "best.ckpt"):
        (folder / name).write_bytes(b"")
        assert checkpoint_of(tmp_path) == folder / name
    assert checkpoint_of(folder / "last.ckpt") == folder / "last.ckpt"
    with pytest.raises(RecloomError, match="there is no run"):
        checkpoint_of(tmp_path / "elsewhere")
