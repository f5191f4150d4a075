"""A run that was copied or moved is resumed as it would have been where it was."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from recloom.fitting.fit import run_command
from recloom.training.checkpoint import LastCheckpoint, RunCheckpoint, read_checkpoint

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, write_dataset):
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n // 8}" for n in range(480)],
            "item_id": [f"i{n}" for n in np.random.default_rng(0).integers(0, 30, 480)],
            "timestamp": np.tile(np.arange(8), 60),
        }
    )
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", frame)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset):
    """A run whose best epoch is not among its last: there is nothing to learn, and the rate is far too high."""
    run = tmp_path_factory.mktemp("runs") / "z"
    words = ["--model.recommender.dim=8", "--model.lr=0.1", "--trainer.max_epochs=6"]
    run_command(["fit", "--model=SASRec", f"--data={dataset}", f"--run={run}", *words, *QUIET])
    return run


def resume(run, epochs, *more):
    words = ["--ckpt_path=last", f"--trainer.max_epochs={epochs}", *more]
    return run_command(["fit", "--run", str(run), *words, *QUIET]).trainer.checkpoint_callback


def best(run):
    return read_checkpoint(run / "checkpoints" / "best.ckpt")["epoch"]


def score(run):
    return json.loads((run / "run.json").read_text())["best"]


def test_a_copied_run_keeps_its_best_epoch(trained, tmp_path):
    before, epoch = score(trained), best(trained)
    assert epoch < 5
    copy = shutil.copytree(trained, tmp_path / "z2")
    for run in (copy, trained):
        callback = resume(run, 7)
        assert score(run) == pytest.approx(before)
        assert best(run) == epoch
        assert callback.best_model_path == str(run / "checkpoints" / "best.ckpt")
        assert list(callback.best_k_models) == [callback.best_model_path]


def test_a_run_begun_from_the_checkpoint_of_another_has_its_own_best_epoch(trained, dataset, tmp_path):
    """Else it would count with a checkpoint that stands in another folder."""
    run, last = tmp_path / "new", trained / "checkpoints" / "last.ckpt"
    words = ["--config", str(trained / "config.yaml"), "--run", str(run), "--ckpt_path", str(last)]
    epochs = read_checkpoint(last)["epoch"] + 1
    run_command(["fit", *words, f"--trainer.max_epochs={epochs + 1}", *QUIET])
    assert best(run) == epochs


def test_a_copy_without_its_best_checkpoint_begins_to_count_anew(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "z3")
    (copy / "checkpoints" / "best.ckpt").unlink()
    epochs = read_checkpoint(copy / "checkpoints" / "last.ckpt")["epoch"] + 1
    resume(copy, epochs + 1)
    assert best(copy) == epochs


def test_paths_of_another_system_and_names_in_checkpoints(tmp_path):
    checkpoints = tmp_path / "z" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "best.ckpt").touch()
    callback = RunCheckpoint(str(checkpoints), "best", monitor="val/ndcg@10", mode="max")
    assert callback.state_key == ModelCheckpoint(monitor="val/ndcg@10", mode="max").state_key
    assert LastCheckpoint().state_key.startswith("LastCheckpoint{")
    there, here = "C:\\runs\\z\\checkpoints\\best.ckpt", str(checkpoints / "best.ckpt")
    callback.on_load_checkpoint(SimpleNamespace(ckpt_path=checkpoints / "last.ckpt"), None, {})
    callback.load_state_dict(
        {
            "dirpath": "C:\\runs\\z\\checkpoints",
            "best_model_path": there,
            "best_model_score": torch.tensor(0.5),
            "best_k_models": {there: torch.tensor(0.5)},
            "kth_best_model_path": there,
            "kth_value": torch.tensor(0.5),
            "last_model_path": "",
        }
    )
    assert (callback.best_model_path, callback.kth_best_model_path, callback.last_model_path) == (
        here,
        here,
        "",
    )
    assert {path: float(value) for path, value in callback.best_k_models.items()} == {
        here: pytest.approx(0.5)
    }
    assert float(callback.best_model_score) == pytest.approx(0.5)
