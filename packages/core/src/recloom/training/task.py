"""Modules that are no recommenders, such as the property models of graphs: what `recloom fit` asks of them.

They bring their own data and their own loop, and keep the conventions of runs: a folder, whole checkpoints, the best
epoch by validation, exact resuming.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import lightning as L
import torch

from ..errors import RecloomError

STATE = "recloom_module"
"""Where a checkpoint says what it was trained on."""


class TaskData(L.LightningDataModule):
    """Data of a TaskModule.

    Args:
        path: folder or file of the data.
        name: of one set among several in it; the name of a run holds it.
        seed: of everything random.
    """

    name: str

    def __init__(self, path: str, name: str = "", seed: int = 0) -> None:
        super().__init__()
        self.path, self.name, self.seed = path, name, seed

    def protocol(self) -> dict[str, str | int | float]:
        """What makes two numbers comparable: at least the data's digest and how they are split. After `setup`."""
        raise NotImplementedError


class TaskModule(L.LightningModule):
    """A LightningModule that is no recommender. `recloom fit --model NAME` trains it, NAME being that of the class.

    A subclass logs `monitor` in validation and whatever it measures as `test/...` in a test. Layers whose size the
    data decide are made in `configure_model`.

    Attributes:
        data_class: what it is trained and tested with.
        monitor: the metric whose best epoch is kept and tested; `{option}` stands for an option of the class.
        mode: whether more (`max`) or less (`min`) of it is better.
        defaults: other values of options than those of a recommender's fit, such as `{"trainer.max_epochs": 200}`.
    """

    data_class: ClassVar[type[TaskData]]
    monitor: ClassVar[str]
    mode: ClassVar[Literal["max", "min"]] = "max"
    defaults: ClassVar[dict[str, Any]] = {}

    @property
    def data(self) -> TaskData:
        """What the trainer was given. Raises RecloomError where that is something else."""
        found = getattr(self.trainer, "datamodule", None)
        if not isinstance(found, TaskData):
            raise RecloomError(
                f"{type(self).__name__} is trained and tested with a {self.data_class.__name__}; pass it as "
                "`datamodule=`"
            )
        return found

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make every step's randomness a function of seed and step, so that a resumed run repeats it."""
        torch.manual_seed((self.data.seed + 1) * 1_000_003 + self.global_step * 31 + self.global_rank)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[STATE] = {"module": type(self).__name__, "protocol": self.data.protocol()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another module, or of other data than those at hand."""
        saved, found = checkpoint.get(STATE), self.data.protocol()
        if saved is None or saved["module"] != type(self).__name__:
            what = "a recommender" if saved is None else saved["module"]
            raise RecloomError(f"the checkpoint holds {what}, not {type(self).__name__}. Start a new run.")
        other = [name for name, value in saved["protocol"].items() if found.get(name) != value]
        if other:
            told = "; ".join(f"{name} {saved['protocol'][name]}, found {found.get(name)}" for name in other)
            raise RecloomError(
                f"this run was trained on other data than {self.data.path}: {told}. Use the data of its config.yaml, "
                "or train a new run."
            )
