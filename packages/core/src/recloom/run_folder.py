"""The folder of a run: its name, its files, and how they are written.

runs/DATA/MODEL/   config.yaml   run.json   checkpoints/{best,last}.ckpt   logs/
                   metrics.json   per_user_test.parquet
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RecloomError
from .io import LOCK, try_lock, versions, whole_folder, write_text
from .next_steps import command_line
from .schemas import RunRecord

if TYPE_CHECKING:
    import torch
    from filelock import BaseFileLock

    from .data.batches.module import RecDataModule
    from .training.module import RecModule

CHECKPOINTS = "checkpoints"
RECORD = "run.json"
ROOT = Path("runs")
RESULTS = ("metrics.json", "per_user_*.parquet", "predictions.parquet")
"""What is measured with a run, apart from the run itself."""


def new_run(data: str, model: str) -> Path:
    """The first free name `runs/DATA/MODEL`, `runs/DATA/MODEL-2`, ..."""
    base = ROOT / Path(data).resolve().name / model
    taken, number = base, 1
    while taken.exists() and any(taken.iterdir()):
        number += 1
        taken = base.with_name(f"{model}-{number}")
    return taken


def latest_run() -> Path:
    """The run under `runs/` whose last checkpoint is newest."""
    found = sorted(ROOT.glob(f"*/*/{CHECKPOINTS}/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RecloomError(f"--ckpt_path last finds no run under {ROOT}/. Name one with --run DIR.")
    return found[-1].parent.parent


def make_room(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Before a fit: refuse a folder that holds a trained run, unless it is resumed or to be overwritten.

    What is to be overwritten is removed; a run that is resumed stays as it is until its training has begun.
    """
    lock(run)
    trained = any((run / CHECKPOINTS).glob("*.ckpt"))
    if trained and not (resume or overwrite):
        raise RecloomError(
            f"{run} holds a trained run already. Go on with it by --ckpt_path last, replace it with --overwrite, "
            "or choose another --run."
        )
    if not resume:
        remove_results(run)
    if trained and overwrite and not resume:
        shutil.rmtree(run / CHECKPOINTS)
        shutil.rmtree(run / "logs", ignore_errors=True)


def remove_results(run: Path) -> None:
    """Remove what an earlier test measured, which no longer describes what the folder holds."""
    for name in RESULTS:
        for file in run.glob(name):
            file.unlink()


def leave_nothing(run: Path) -> None:
    """After a fit that failed: remove its empty log, and before its first checkpoint its folder, if nothing else is in
    it.
    """
    for log in (run / "logs").glob("version_*"):
        with contextlib.suppress(OSError):  # one that holds something stays
            log.rmdir()
    if not run.is_dir() or {path.name for path in run.iterdir()} - {LOCK, "config.yaml", "logs"}:
        return
    unlock()
    shutil.rmtree(run, ignore_errors=True)
    with contextlib.suppress(OSError):  # others stand beside it
        run.parent.rmdir()


@contextlib.contextmanager
def new_folder(run: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to write a run into, which becomes `run` when it is whole.

    Raises RecloomError where a run stands there that is not to be replaced, or something else does.
    """
    with whole_folder(run, overwrite=overwrite, refuse=_refuse_other) as partial:
        yield partial


def _refuse_other(run: Path, overwrite: bool) -> None:
    if run.exists() and not overwrite:
        raise RecloomError(f"{run} exists already. Choose another --out, or replace it with --overwrite.")
    if run.exists() and not (run.is_dir() and (run / CHECKPOINTS).is_dir()):
        raise RecloomError(f"{run} is no run, and only a run is replaced. Choose another --out.")


_held: list[BaseFileLock] = []


def lock(run: Path) -> None:
    """Hold the folder for this process until it ends; RecloomError where another one trains in it."""
    unlock()
    try:
        run.mkdir(parents=True, exist_ok=True)
        held = try_lock(run / LOCK)
    except OSError as error:
        raise RecloomError(
            f"the run cannot be written to {run}: {error.strerror}. Choose another --run."
        ) from error
    if held is None:
        raise RecloomError(f"another fit is writing {run}. Wait for it, or choose another --run.")
    _held.append(held)


def unlock() -> None:
    """Hold no folder any more."""
    while _held:
        _held.pop().release()


@dataclass(frozen=True)
class TrainedRun:
    """Another run as an option of a recommender or a loss, such as a teacher or the retriever of a cascade.

    Training and `recloom.load` open it before it is needed: before `prepare` and `fit` of a loss, before `fit` of a
    recommender. It must have been trained on the same data and split. What it is stands in the checkpoint and in
    run.json; a run that changed since is refused.

    Args:
        path: its folder, or a checkpoint.
        identity: its model and the digest of its dataset, as run.json says; empty = what is there.
        digest: of its checkpoint, as run.json says; empty = what is there when this run is trained.
    """

    path: str
    identity: str = ""
    digest: str = ""
    _opened: list[RecModule] = field(default_factory=list, init=False, repr=False, compare=False)

    def attach(self, module: RecModule) -> None:
        """Keep the loaded run; training does so."""
        self._opened[:] = [module]

    def module(self, device: torch.device | None = None) -> RecModule:
        """The run in eval mode, on a device, its weights without gradients: `module().rank(batch)` gives its scores.

        Raises RecloomError where nobody has opened it.
        """
        if not self._opened:
            raise RecloomError(
                f"the run {self.path} is not open. Training and recloom.load open the runs that a recommender or a "
                "loss holds as an attribute, after its constructor."
            )
        return self._opened[0] if device is None else self._opened[0].to(device)


def find_run(path: str, near: str | Path | None) -> Path:
    """A run as it was named, or so seen from a folder above the run `near`, which builds on it."""
    places = [Path(path)] if near is None else _seen_from(Path(near), path)
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise RecloomError(
            f"the run {path}, on which this one builds, is not there now. Put it back, or name its folder."
        )
    return found


def find_dataset(run: Path, path: str) -> Path:
    """The dataset that a run was trained on: as it was named, or so seen from a folder above the run."""
    found = next((place for place in _seen_from(run, path) if (place / "dataset.json").is_file()), None)
    if found is None:
        raise RecloomError(
            f"the run {run} was trained on the dataset {path}, which is not there now. Say where it is with --data."
        )
    return found


def find_data(run: Path, path: str) -> Path:
    """The data that a task module was trained on: as they were named, or so seen from a folder above the run."""
    found = next((place for place in _seen_from(run, path) if place.exists()), None)
    if found is None:
        raise RecloomError(
            f"the run {run} was trained on {path}, which is not there now. Say where it is with --data."
        )
    return found


def _seen_from(run: Path, path: str) -> list[Path]:
    return [Path(path), *(parent / path for parent in run.resolve().parents)]


VECTORS = {"vectors": "item", "user_vectors": "user"}
"""Options of the data that name a file of vectors, and whose these are."""


def find_vectors(run: Path, given: Any, option: str = "vectors") -> Any:
    """The files of vectors that a run was trained with, looked for as the dataset is; None where it had none.

    Args:
        given: a file, or files by name.
        option: the one of VECTORS that named them.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        return {name: find_vectors(run, path, option) for name, path in dict(given).items()}
    found = next((place for place in _seen_from(run, given) if place.is_file()), None)
    if found is None:
        raise RecloomError(
            f"the run {run} was trained with the {VECTORS[option]} vectors {given}, which are not there now. Put the "
            f"file back, or say where it is with --data.{option}."
        )
    return str(found)


def checkpoint_of(path: Path) -> Path:
    """The best checkpoint of a run's folder; a checkpoint is its own. RecloomError where there is none."""
    if not path.exists():
        raise RecloomError(f"there is no run {path}. Train one with `recloom fit`; runs lie under runs/.")
    return best_checkpoint(path) if path.is_dir() else path


def best_checkpoint(run: Path) -> Path:
    """`best.ckpt` where validation chose one, else `last.ckpt`."""
    for name in ("best.ckpt", "last.ckpt"):
        if (run / CHECKPOINTS / name).is_file():
            return run / CHECKPOINTS / name
    raise RecloomError(
        f"{run} is not a trained run: it holds no {CHECKPOINTS}/best.ckpt or last.ckpt. Train one with `recloom fit`."
    )


def finished(run: Path) -> bool:
    """Whether the fit came to its end; it writes `run.json` last."""
    return (run / RECORD).is_file()


def task_name(config: Path) -> str | None:
    """The task module that a config file is of; None where it is a recommender's, or no such file."""
    import yaml

    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    name = found.get("module") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


def refuse_task(run: Path) -> None:
    """Raise RecloomError for a run of a task module, which cannot recommend, be exported or compared."""
    name = task_name(run / "config.yaml")
    if name is not None:
        raise RecloomError(no_recommender(run, name))


def no_recommender(run: Path, name: str) -> str:
    """What to say where a recommender is needed."""
    return (
        f"{run} is a run of {name}, which is no recommender: nothing can be recommended, exported, verified or "
        f"compared with it. Measure it with `{command_line('test', run)}` or `{command_line('validate', run)}`."
    )


def write_config(run: Path, text: str) -> None:
    """Keep the configuration that a fit was started with."""
    write_text(run / "config.yaml", text)


def write_record(
    run: Path,
    trainer: Any,
    module: RecModule,
    data: RecDataModule,
    llm: dict[str, Any] | None = None,
    best: float | None = None,
    *,
    seconds: float,
    cpu_seconds: float,
) -> None:
    """Write `run.json` at the end of a fit.

    best: what validation reached at the best checkpoint.
    llm: which language models and versions of prompts the recommender asks, if any.
    seconds, cpu_seconds: what the fit took.
    """
    record = RunRecord(
        model=module.recipe["class_path"].rpartition(".")[2],
        recommender=dict(module.recipe),
        llm=llm,
        loss=None if module.loss is None else type(module.loss).__name__,
        seed=data.seed,
        data=str(data.path),
        protocol=data.protocol("valid" if len(data.parts["valid"]) else "test"),
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        best=best,
        seconds=round(seconds, 2),
        cpu_seconds=round(cpu_seconds, 2),
        parameters=sum(one.numel() for one in module.parameters() if one.requires_grad),
        versions=versions(),
        runs=module.runs.records,
    )
    write_text(run / RECORD, record.model_dump_json(indent=2) + "\n")
