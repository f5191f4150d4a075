"""Other trained runs that a recommender or a loss builds on: opened, checked, and named in what is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ..errors import RecloomError
from ..io import sha256
from ..recommender import Recommender
from ..run_folder import TrainedRun, checkpoint_of, find_run
from ..schemas import UsedRun
from .checkpoint import read_checkpoint

if TYPE_CHECKING:
    from .module import RecModule


class HeldRuns:
    """The trained runs that the recommender and the loss of a module hold as options.

    Attributes:
        records: what each is, by where it is held, such as `loss.teacher`.
    """

    def __init__(self) -> None:
        self.records: dict[str, UsedRun] = {}

    def open(self, owner: nn.Module, trained_on: Mapping[str, str], near: str | Path | None) -> None:
        """Load every run that `owner` holds.

        Args:
            owner: a recommender or a loss.
            trained_on: digests of the data, the split and the ids that all of them must have in common.
            near: a folder, from whose parents a relative path is looked for too.

        Raises RecloomError for a run that changed or is another one than was meant, or was trained on other data.
        """
        part = "recommender" if isinstance(owner, Recommender) else "loss"
        for name, run in held(owner):
            self.records[f"{part}.{name}"] = _opened(run, trained_on, near)

    def check(self, saved: Mapping[str, Mapping[str, str]]) -> None:
        """Refuse runs that are not those which a checkpoint names."""
        for name, then in saved.items():
            now = self.records.get(name)
            if now is not None and now.digest != then["digest"]:
                raise RecloomError(
                    f"{name} of this run was {then['path']} ({then['identity']}) with the digest {then['digest']}; "
                    f"found {now.path} ({now.identity}) with {now.digest}. Put that run back, or train a new one."
                )


def held(owner: nn.Module) -> Iterator[tuple[str, TrainedRun]]:
    """Every TrainedRun among the attributes of a module and its parts, with the path to it."""
    for path, part in owner.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, TrainedRun):
                yield f"{path}.{name}" if path else name, value


def _opened(run: TrainedRun, trained_on: Mapping[str, str], near: str | Path | None) -> UsedRun:
    folder = find_run(run.path, near)
    checkpoint = checkpoint_of(folder)
    module = restore(read_checkpoint(checkpoint), folder)
    found = UsedRun(
        path=run.path,
        identity=f"{module.recipe['class_path'].rpartition('.')[2]} on {module.trained_on.get('dataset', 'no data')}",
        digest=sha256(checkpoint)[:16],
    )
    for name in ("identity", "digest"):
        asked = getattr(run, name)
        if asked and asked != getattr(found, name):
            raise RecloomError(
                f"the run {folder} has the {name} {getattr(found, name)}, asked for {asked}. It was trained again, or "
                f"is another one: put the run back, or leave out its {name} to use the one that is there."
            )
    other = [name for name, value in trained_on.items() if module.trained_on.get(name) != value]
    if other:
        raise RecloomError(
            f"the run {folder} was trained on another {' and '.join(other)} than this one, so its ids are others, or "
            "it has learnt from what is held out here. Train it on the data and the split of this run."
        )
    run.attach(module.eval().requires_grad_(False))
    return found


def restore(checkpoint: dict[str, object], folder: Path | None = None) -> RecModule:
    """The RecModule of a checkpoint, with its weights; `folder` is that of its run, where it has one."""
    from .module import RecModule

    saved = checkpoint.get("recloom")
    missing = {"recommender", "metrics", "catalog", "trained_on"} - set(
        saved if isinstance(saved, dict) else ()
    )
    if not isinstance(saved, dict) or missing:
        raise RecloomError(
            f"this checkpoint holds no {' and no '.join(sorted(missing))}, so it was not written by this version of "
            "Recloom. Train the run again."
        )
    module = RecModule(saved["recommender"], metrics=saved["metrics"])
    module.run_folder = folder
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])  # type: ignore[arg-type]
    return module
