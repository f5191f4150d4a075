"""Checkpoints that are either whole or absent, and hold plain data only."""

from __future__ import annotations

import zipfile
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from ..errors import RecloomError
from ..io import whole_file


class RunCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that keeps its best score where a run was moved or copied before it is resumed.

    Lightning's own forgets the score where the folder is another one, and replaces the best checkpoint by the next.
    """

    stored_as = "ModelCheckpoint"
    """What it is called in checkpoints, those of earlier runs too."""
    _resumed_from: Path | None = None

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, self.stored_as, 1)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self._resumed_from = Path(trainer.ckpt_path) if trainer.ckpt_path else None

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Without validation there is no best epoch: the last one counts, which `LastCheckpoint` keeps."""
        if self.monitor is None or self.monitor in trainer.callback_metrics or sum(trainer.num_val_batches):
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(self._moved_here(state_dict))

    def _moved_here(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state with the paths of this folder, where it was read from here and its best checkpoint is here too."""
        if self.dirpath is None or state["dirpath"] == self.dirpath or self._resumed_from is None:
            return state
        folder = Path(self.dirpath)

        def here(path: str) -> str:
            return path and str(folder / PureWindowsPath(path).name)  # reads the separators of any system

        best = here(state["best_model_path"])
        if self._resumed_from.resolve().parent != folder.resolve() or (best and not Path(best).is_file()):
            return state
        return state | {
            "dirpath": self.dirpath,
            "best_model_path": best,
            "kth_best_model_path": here(state["kth_best_model_path"]),
            "last_model_path": here(state["last_model_path"]),
            "best_k_models": {here(path): score for path, score in state["best_k_models"].items()},
        }


def own_checkpoint(trainer: Any) -> RunCheckpoint | None:
    """What keeps the best checkpoint of a run: callbacks that were added have no say in which it is."""
    return next((one for one in trainer.checkpoint_callbacks if type(one) is RunCheckpoint), None)


def best_score(trainer: Any) -> tuple[str, float] | None:
    """What a run's own checkpoint monitors and the best score it saw; None where it saw none."""
    own = own_checkpoint(trainer)
    if own is None or own.best_model_score is None:
        return None
    return str(own.monitor), float(own.best_model_score)


class LastCheckpoint(RunCheckpoint):
    """Keeps `last.ckpt`, to resume from: after every epoch, or every so many steps.

    Lightning's own `save_last` writes only when the best checkpoint changes.

    Args:
        dirpath: folder; set to the run's own.
        every_n_train_steps: write after so many steps instead of after every epoch.
    """

    stored_as = "LastCheckpoint"

    def __init__(self, dirpath: str | None = None, every_n_train_steps: int | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="last",
            every_n_train_steps=every_n_train_steps,
            save_on_train_epoch_end=every_n_train_steps is None,
            enable_version_counter=False,
        )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file, then renames: a kill leaves the old checkpoint or the new, never half."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with whole_file(target) as partial, open(partial, "wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError where the disk is full
            raise RecloomError(f"{target} cannot be written: {error}. Is the disk full?") from error

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(path, map_location)


def read_checkpoint(path: Any, map_location: Any = None) -> dict[str, Any]:
    """Load with `weights_only=True`: a checkpoint from elsewhere cannot run code."""
    if not Path(path).is_file():
        raise RecloomError(f"there is no checkpoint {path}. Expected a file that `recloom fit` wrote.")
    if Path(path).suffix == ".onnx":
        raise RecloomError(
            f"{path} is an exported file, not a run. Recommend with the run, or serve the file: docs/serve.md."
        )
    if not zipfile.is_zipfile(path):
        raise RecloomError(
            f"{path} cannot be read as a checkpoint: it is damaged, or a file of another kind. Expected the folder "
            "of a run, or a .ckpt file that `recloom fit` wrote."
        )
    try:
        loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        reason = str(error).strip().partition("\n")[0]
        if "Weights only" in reason:
            reason = "it holds more than tensors and plain values, and nothing else is loaded"
        raise RecloomError(f"{path} cannot be read as a checkpoint: {reason}") from error
    return loaded
