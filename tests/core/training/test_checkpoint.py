"""What is no checkpoint is refused in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recloom.errors import RecloomError
from recloom.training.checkpoint import AtomicCheckpointIO, read_checkpoint


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
