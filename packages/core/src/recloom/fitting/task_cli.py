"""`recloom fit|validate|test` of modules that are no recommenders: `recloom fit --model NodeProperty --data DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from ..errors import RecloomError
from ..io import versions, write_text
from ..next_steps import then
from ..plugins import collect
from ..run_folder import RECORD, find_data, task_name
from ..schemas import ModuleRecord, ModuleResults
from ..spec import unknown
from ..training.callbacks import clock_of
from ..training.checkpoint import best_score, own_checkpoint, read_checkpoint
from ..training.task import TaskData, TaskModule
from .lightning_cli import RunCLI, how_far, start, with_defaults
from .words import value, values, without

VERBS = ("fit", "validate", "test")


class TaskCLI(RunCLI):
    """The command line of a TaskModule and its data."""

    model_class: type[TaskModule]
    model: TaskModule
    datamodule: TaskData

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        kind = self.model_class
        parser.add_argument(
            "--module", type=str, default=kind.__name__, help="what is trained (--model NAME)"
        )

    def named(self, config: Any) -> tuple[str, str]:
        parts = (Path(config.data.path).resolve().name, config.data.get("name"))
        return "-".join(part for part in parts if part), self.model_class.__name__

    def not_a_fit(self, config: Any, run: Path) -> None:
        config.data.path = str(find_data(run, config.data.path))

    def watched(self, config: Any) -> tuple[str, str] | None:
        kind = self.model_class
        return kind.monitor.format(**vars(config.model)), kind.mode

    def after_fit(self) -> None:
        trainer: Any = self.trainer
        if not trainer.is_global_zero:
            return
        folder, best = Path(trainer.default_root_dir), best_score(trainer)
        record = ModuleRecord(
            module=type(self.model).__name__,
            seed=self.datamodule.seed,
            data=str(self.datamodule.path),
            protocol=self.datamodule.protocol(),
            epochs=trainer.current_epoch,
            steps=trainer.global_step,
            monitor=_monitor(trainer),
            best=None if best is None else best[1],
            seconds=round(clock_of(trainer).seconds, 2),
            versions=versions(),
        )
        write_text(folder / RECORD, record.model_dump_json(indent=2) + "\n")
        print(f"trained: {folder}{how_far(trainer)} ({then('test', folder)})")

    def after_test(self) -> None:
        trainer: Any = self.trainer
        if not trainer.is_global_zero:
            return
        folder, path = Path(trainer.default_root_dir), Path(trainer.ckpt_path)
        found = {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}
        results = ModuleResults(
            module=type(self.model).__name__,
            seed=self.datamodule.seed,
            protocol=self.datamodule.protocol(),
            checkpoint=path.stem,
            epoch=read_checkpoint(path)["epoch"] + 1,
            monitor=_monitor(trainer),
            metrics=found,
            versions=versions(),
        )
        write_text(folder / "metrics.json", results.model_dump_json(indent=2) + "\n")
        show(results)
        self.tell_interrupted()


def _monitor(trainer: Any) -> str:
    own = own_checkpoint(trainer)
    assert own is not None  # RunCLI gives every trainer one
    return str(own.monitor)


def show(results: ModuleResults) -> None:
    """Print the metrics of a test, and the protocol they hold for."""
    from ..terminal import visible

    print(visible(f"{results.module}, test part of {results.protocol.get('data', 'the data')}"))
    for name, number in results.metrics.items():
        print(visible(f"{name:20} {number:.4f}"))
    why = f", the best by {results.monitor}" if results.checkpoint == "best" else ""
    print(visible(f"epoch {results.epoch}{why}, seed {results.seed}"))
    print(visible(", ".join(f"{name} {fact}" for name, fact in results.protocol.items() if name != "data")))


def chosen(words: Sequence[str]) -> type[TaskModule] | None:
    """The task module that expanded words ask for, by name or by a config file; None = a recommender."""
    known: dict[str, type[TaskModule]] = collect("register_modules")
    named = next(reversed(values(list(words), "--model.recommender")), None)
    if named is not None:
        return known.get(named)
    config = value(list(words), "--config") or value(list(words), "-c")
    name = task_name(Path(config)) if config else None
    if name is None:
        return None
    if name not in known:
        raise RecloomError(f"{config}: " + unknown(name, known, "modules that are no recommenders"))
    return known[name]


def run_task(kind: type[TaskModule], words: Sequence[str]) -> TaskCLI:
    """Run `fit`, `validate` or `test` of a task module from expanded words."""
    verb, *rest = without(list(words), "--model.recommender")
    if verb not in VERBS:
        raise RecloomError(
            f"{kind.__name__} is no recommender, so it ranks nothing: `recloom {verb}` is not for it, only "
            f"{', '.join(VERBS)}."
        )
    line = with_defaults(TaskCLI, kind.defaults)
    return start(line, kind, kind.data_class, [verb, *rest])
