"""What is no checkpoint is refused in one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from recloom.errors import RecloomError
from recloom.training.checkpoint import (
    AtomicCheckpointIO,
    LastCheckpoint,
    RunCheckpoint,
    best_score,
    read_checkpoint,
)


def refusal(path: Path) -> str:
    with pytest.raises(RecloomError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(f"{path} ")


def test_an_exported_file_is_no_run(tmp_path):
    path = tmp_path / "sas.onnx"
    path.write_bytes(b"\x08\x0a\x12\x07recloom")
    assert refusal(path) == (
        "is an exported file, not a run. Recommend with the run, or serve the file: docs/serve.md."
    )


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    assert refusal(path).startswith(
        "cannot be read as a checkpoint: it is damaged, or a file of another kind."
    )


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}, "more": Path.cwd}, path)
    assert refusal(path) == (
        "cannot be read as a checkpoint: it holds more than tensors and plain values, and nothing else is loaded"
    )


def test_a_checkpoint_that_lost_its_middle(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"weights": torch.rand(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:300] + whole[600:])
    assert "cannot be read as a checkpoint: " in "recloom " + refusal(path)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")]
)
def test_a_full_disk_is_named_and_leaves_the_old_checkpoint(tmp_path, monkeypatch, error):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def full(checkpoint, file):
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RecloomError, match=r"last\.ckpt cannot be written: .*\. Is the disk full\?"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert read_checkpoint(path) == {"epoch": 1}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["last.ckpt"]


def test_a_checkpoint_is_written_into_folders_that_are_made_for_it(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for epoch in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"epoch": epoch}, path)
        assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": epoch}


def test_tensors_come_to_the_processor_unless_another_place_is_named(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": torch.ones(2)}, path)
    assert AtomicCheckpointIO().load_checkpoint(path, "meta")["weight"].device.type == "meta"
    asked = {}
    monkeypatch.setattr(torch, "load", lambda path, **how: asked.update(how) or {})
    read_checkpoint(path)
    assert asked == {"map_location": "cpu", "weights_only": True}


def test_the_last_checkpoint_follows_every_epoch_or_every_so_many_steps(tmp_path):
    each, some = LastCheckpoint(str(tmp_path)), LastCheckpoint(str(tmp_path), every_n_train_steps=7)
    assert (each._save_on_train_epoch_end, some._save_on_train_epoch_end) == (True, False)
    assert some._every_n_train_steps == 7
    for one in (each, some):
        assert (one.filename, one.dirpath, one._enable_version_counter) == ("last", str(tmp_path), False)
    assert each.state_key.startswith("LastCheckpoint{")
    assert RunCheckpoint(str(tmp_path)).state_key.startswith("ModelCheckpoint{")


@pytest.mark.parametrize(
    ("monitor", "batches", "looked"),
    [("val/x", [0], False), ("val/x", [0, 3], True), ("train/x", [0], True), (None, [0], True)],
)
def test_without_validation_no_epoch_is_the_best(monkeypatch, monitor, batches, looked):
    seen = []
    monkeypatch.setattr(ModelCheckpoint, "on_train_epoch_end", lambda *_: seen.append(monitor))
    trainer = SimpleNamespace(callback_metrics={"train/x": 1.0}, num_val_batches=batches)
    RunCheckpoint(monitor=monitor).on_train_epoch_end(trainer, None)
    assert seen == [monitor] * looked


def moved(folder: Path, resumed_from: Path | None, best: str, state_of: str = "C:\\runs\\old\\checkpoints"):
    """The state of a run whose folder was `state_of`, as its checkpoint here would take it."""
    callback = RunCheckpoint(dirpath=None if folder is None else str(folder))
    trainer = SimpleNamespace(ckpt_path=None if resumed_from is None else str(resumed_from))
    callback.on_load_checkpoint(trainer, None, {})
    old = {
        "dirpath": state_of,
        "best_model_score": 0.5,
        "best_model_path": best and f"{state_of}\\{best}",
        "kth_best_model_path": f"{state_of}\\second.ckpt",
        "last_model_path": "",
        "best_k_models": {f"{state_of}\\best.ckpt": 0.5},
    }
    return old, callback._moved_here(old)


def test_the_state_of_a_run_that_was_moved_names_the_files_that_are_here(tmp_path):
    (tmp_path / "best.ckpt").write_bytes(b"")
    here = {
        "dirpath": str(tmp_path),
        "best_model_score": 0.5,
        "best_model_path": str(tmp_path / "best.ckpt"),
        "kth_best_model_path": str(tmp_path / "second.ckpt"),
        "last_model_path": "",
        "best_k_models": {str(tmp_path / "best.ckpt"): 0.5},
    }
    assert moved(tmp_path, tmp_path / "last.ckpt", "best.ckpt")[1] == here
    assert moved(tmp_path, tmp_path / "last.ckpt", "")[1] == here | {"best_model_path": ""}


def test_another_state_stays_as_it_is(tmp_path):
    (tmp_path / "best.ckpt").write_bytes(b"")
    last = tmp_path / "last.ckpt"
    for old, kept in (
        moved(None, last, "best.ckpt"),  # no folder of its own
        moved(tmp_path, last, "best.ckpt", str(tmp_path)),  # not moved
        moved(tmp_path, None, "best.ckpt"),  # nothing is resumed
        moved(tmp_path, tmp_path / "other" / "last.ckpt", "best.ckpt"),  # resumed from elsewhere
        moved(tmp_path, last, "epoch=3.ckpt"),  # without its best checkpoint
    ):
        assert kept is old


def test_the_best_score_is_that_of_the_run_s_own_checkpoint():
    """Whatever was added before it or behind it; None where there is none, or it has seen no score."""
    own, others = RunCheckpoint(monitor="val/x", mode="max"), [ModelCheckpoint(monitor="y"), LastCheckpoint()]
    for other in others:
        other.best_model_score = torch.tensor(9.0)
    assert best_score(SimpleNamespace(checkpoint_callbacks=others)) is None
    trainer = SimpleNamespace(checkpoint_callbacks=[others[0], own, others[1]])
    assert best_score(trainer) is None
    own.best_model_score = torch.tensor(0.5)
    assert best_score(trainer) == ("val/x", pytest.approx(0.5))
