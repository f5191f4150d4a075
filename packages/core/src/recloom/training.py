"""`recloom fit|validate|test|predict`: Lightning's command line with short names, and the same in Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from .checkpoint import LastCheckpoint
from .config_errors import explain
from .data.module import RecDataModule
from .errors import RecloomError, Terminated
from .evaluation.results import show
from .metrics import parse
from .module import RecModule
from .plugins import collect
from .quiet import calm
from .run import Run, load, write_predictions
from .runfolder import (
    CHECKPOINTS,
    RECORD,
    VECTORS,
    best_checkpoint,
    find_dataset,
    find_vectors,
    finished,
    latest_run,
    leave_nothing,
    make_room,
    new_run,
    write_config,
    write_record,
)
from .spec import find
from .stopping import EarlyStop, stopped_by_sigterm
from .training_bar import TrainingBar

SHARED_RUN = "RECLOOM_RUN"
"""Tells the other processes of a distributed fit which folder the first one chose."""
MONITOR = "val/ndcg@10"
CSV = "lightning.pytorch.loggers.CSVLogger"
GO_ON = "go on with: recloom fit --run {} --ckpt_path last"
SHORT = {"--model": "--model.recommender", "--data": "--data.path"}


class SaveConfig(SaveConfigCallback):
    """Write the full configuration to `config.yaml` in the run folder once a fit has begun.

    Not in `setup`, as Lightning's own does: a checkpoint that does not fit must leave the run as it was.
    """

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        return None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            write_config(Path(trainer.default_root_dir), self.parser.dump(self.config, skip_none=False))
            (Path(trainer.default_root_dir) / RECORD).unlink(missing_ok=True)  # until this fit has ended


class RecCLI(LightningCLI):
    """LightningCLI over RecModule and RecDataModule; a run is one folder."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run", type=str | None, default=None, help="folder of the run (default: runs/DATA/MODEL)"
        )
        parser.add_argument(
            "--overwrite",
            type=bool,
            default=False,
            help="replace what a finished fit left in the folder of the run",
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last")
        parser.add_lightning_class_args(EarlyStop, "early_stopping")
        parser.set_defaults(
            {
                "checkpoint.monitor": MONITOR,
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
            }
        )
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        shared = os.environ.pop(SHARED_RUN, None)
        first = shared is None and os.environ.get("LOCAL_RANK", "0") == "0"
        if not (config.run or shared) and "LOCAL_RANK" in os.environ:
            raise RecloomError(
                "this program runs in several processes, which must agree on the folder of the run. "
                "Name it with --run, or in Python with run=."
            )
        given = config.run or shared
        run = Path(given) if given else new_run(config.data.path, _class_name(config.model.recommender))
        if first:
            os.environ[SHARED_RUN] = str(run)
        if self.subcommand == "fit" and first:
            make_room(run, resume=config.ckpt_path is not None, overwrite=config.overwrite)
        config.overwrite = False  # a config kept in the run must not replace another one later
        config.run = str(run)
        if self.subcommand != "fit":
            self._not_a_fit(config, run)
        self._monitor_what_is_measured(config)
        config.trainer.default_root_dir = str(run)
        config.checkpoint.dirpath = config.last.dirpath = str(run / CHECKPOINTS)
        config.trainer.plugins = _component("recloom.checkpoint.AtomicCheckpointIO")
        if "verbose" in config:
            config.verbose = False  # the table with intervals is shown instead
        if self.subcommand == "fit" and (config.trainer.logger is None or _is_ours(config.trainer.logger)):
            config.trainer.logger = _component(CSV, save_dir=str(run), name="logs")

    def after_instantiate_classes(self) -> None:
        usual = (RichProgressBar, TQDMProgressBar)  # what Lightning puts there unasked
        trainer: Any = self.trainer
        trainer.callbacks = [TrainingBar() if type(one) in usual else one for one in trainer.callbacks]

    def _not_a_fit(self, config: Any, run: Path) -> None:
        """A run is measured without logs of its own, with the dataset wherever it is now."""
        config.trainer.logger = False
        config.data.path = str(find_dataset(run, config.data.path))
        for name in VECTORS:
            config.data[name] = find_vectors(run, config.data[name], name)
        if self.subcommand == "test" and not os.access(run, os.W_OK):
            raise RecloomError(
                f"the results cannot be kept in {run}, which is not writable. Copy the run, and test that."
            )

    def _monitor_what_is_measured(self, config: Any) -> None:
        """Where the monitored metric is not among the metrics, monitor the first of these."""
        first = next(iter(config.model.metrics), "")
        for watcher in (config.checkpoint, config.early_stopping):
            if (
                watcher.monitor == MONITOR
                and MONITOR.removeprefix("val/") not in config.model.metrics
                and first
            ):
                metric, _ = parse(first, collect("register_metrics"))
                watcher.monitor, watcher.mode = f"val/{first}", "max" if metric.higher_is_better else "min"

    def before_fit(self) -> None:
        if training_free(self.model):
            self.trainer.fit_loop.max_epochs = 0
            self.trainer.num_sanity_val_steps = 0

    def after_fit(self) -> None:
        finish_fit(self.trainer, self.model, self.datamodule)

    def after_test(self) -> None:
        folder = Path(self.trainer.default_root_dir)
        show(Run.of(self.trainer.default_root_dir, self.model).write_results(self.datamodule))
        if self.model.out_of_reach:
            print(
                f"{self.model.out_of_reach:,} held-out items stand in the masked history, so nothing can find them; "
                "--data.seen kept would let them be recommended again"
            )
        if not finished(folder):
            print(f"training was interrupted: this is the state it had reached ({GO_ON.format(folder)})")

    def after_predict(self) -> None:
        path = Path(self.trainer.default_root_dir) / "predictions.parquet"
        write_predictions(path, self.trainer.predict_loop.predictions, self.model.catalog)
        print(f"wrote {path}")

    def after_validate(self) -> None:
        for name, value in self.trainer.callback_metrics.items():
            print(f"{name:20} {float(value):.4f}")


def training_free(module: RecModule) -> bool:
    """Whether all the work is done in the recommender's `fit`."""
    return (
        module.given_loss[0] is None
        and find("register_models", module.recipe["class_path"]).default_loss is None
    )


def finish_fit(trainer: Any, module: RecModule, data: RecDataModule) -> None:
    """Leave a checkpoint and a record behind, whatever was trained."""
    folder = Path(trainer.default_root_dir)
    if training_free(module):
        trainer.save_checkpoint(folder / CHECKPOINTS / "last.ckpt")
    if trainer.is_global_zero:
        write_record(folder, trainer, module, data)
        print(f"trained: {folder}{_how(trainer)} (next: recloom test {folder})")


def _how(trainer: Any) -> str:
    """How far training went, and what it reached on the validation part."""
    best = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if not trainer.current_epoch:
        return ""
    stopped = any(getattr(callback, "stopped_epoch", 0) for callback in trainer.callbacks)
    epochs = f", {trainer.current_epoch} epochs" + (", stopped early" if stopped else "")
    return epochs + (
        f", best {trainer.checkpoint_callback.monitor} {float(best):.4f}" if best is not None else ""
    )


def run_command(args: Sequence[str]) -> RecCLI:
    """Run `fit`, `validate`, `test` or `predict` from command-line words."""
    return _run(with_run_folder(expand(list(args))))


def fit(
    data: str | Path,
    model: str,
    options: dict[str, Any] | None = None,
    *,
    loss: str | dict[str, Any] | None = None,
    run: str | Path | None = None,
    seed: int = 0,
    max_epochs: int = 50,
    config: dict[str, Any] | None = None,
) -> Run:
    """Train a recommender on a prepared dataset, as `recloom fit` does.

    Args:
        data: folder of the prepared dataset.
        model: short name of an installed recommender.
        options: its hyper-parameters.
        loss: name of a loss, or `{"class_path": name, "init_args": {...}}`; by default the recommender's own.
        run: folder to write; by default a new one under `runs/`.
        seed: of everything random.
        max_epochs: epochs at most; training stops earlier when validation no longer improves.
        config: anything else that a config file may hold, such as `{"data": {"batch_size": 256}}`.

    Returns:
        The trained run.
    """
    given = {"model": {}, "data": {}, "trainer": {}} | (config or {})
    given["seed_everything"] = seed
    given["model"] = {"recommender": {"class_path": model, "init_args": options or {}}} | given["model"]
    if loss is not None:
        given["model"]["loss"] = {"class_path": loss} if isinstance(loss, str) else loss
    given["data"] = {"path": str(data)} | given["data"]
    given["trainer"] = {"max_epochs": max_epochs} | given["trainer"]
    if run is not None:
        given["run"] = str(run)
    cli = _run({"subcommand": "fit", "fit": given})
    return load(cli.trainer.default_root_dir)


def _run(args: Any) -> RecCLI:
    calm()
    collect("register_models"), collect("register_losses"), collect("register_language_models")
    quiet = {"exit_on_error": False}
    parsers: dict[str, Any] = dict.fromkeys(("fit", "validate", "test", "predict"), quiet)
    try:
        with stopped_by_sigterm():
            return RecCLI(
                RecModule,
                RecDataModule,
                args=args,
                save_config_callback=SaveConfig,
                seed_everything_default=0,
                trainer_defaults={
                    "max_epochs": 50,
                    "accelerator": "auto",
                    "devices": 1,
                    "use_distributed_sampler": False,
                    "enable_model_summary": False,
                },
                parser_kwargs=parsers | quiet,
            )
    except ArgumentError as error:
        raise RecloomError(explain(error, args)) from error
    except (SystemExit, KeyboardInterrupt) as stop:
        cause = stop if isinstance(stop, KeyboardInterrupt) else stop.__context__
        if not isinstance(cause, KeyboardInterrupt):
            raise
        raise type(cause)(_stopped(cause, verb=args[0] if isinstance(args, list) else "fit")) from None
    except MisconfigurationException as error:
        raise RecloomError(
            f"{error} Look at what this machine has with `recloom doctor`; --trainer.accelerator cpu always works."
        ) from error
    finally:
        begun = os.environ.pop(SHARED_RUN, None)  # the next fit of this process has a folder of its own
        if begun and sys.exc_info()[0]:
            leave_nothing(Path(begun))


def _stopped(cause: KeyboardInterrupt, verb: str) -> str:
    """What to say where somebody stopped the work: what is left of it, and how to go on."""
    word = "terminated" if isinstance(cause, Terminated) else "interrupted"
    if verb != "fit":
        return word
    folder = Path(os.environ.get(SHARED_RUN, ""))
    kept = (folder / CHECKPOINTS / "last.ckpt").is_file()
    return f"{word}; {GO_ON.format(folder) if kept else 'nothing was kept yet'}"


def expand(args: list[str]) -> list[str]:
    """`--model SASRec --data DIR` for `--model.recommender SASRec --data.path DIR`, `test RUN` for `test --run RUN`."""
    words: list[str] = []
    for place, word in enumerate(args):
        flag, equals, value = word.partition("=")
        if (place and args[place - 1] == "--model.metrics") or (flag == "--model.metrics" and equals):
            flag, value = (flag, _listed(value)) if equals else (_listed(word), value)
        words.append("--overwrite=true" if word == "--overwrite" else SHORT.get(flag, flag) + equals + value)
    if len(words) > 1 and words[0] != "fit" and not words[1].startswith("-"):
        words.insert(1, "--run")
    return words


def _listed(names: str) -> str:
    """`a,b` as `[a,b]`."""
    return names if names.startswith("[") else f"[{names}]"


def with_run_folder(args: list[str]) -> list[str]:
    """Make `--run DIR` bring the run's config and checkpoint; make `--ckpt_path last` find the newest run."""
    verb, words = args[0], args[1:]
    run, checkpoint = _value(words, "--run"), _value(words, "--ckpt_path")
    if "-h" in words or "--help" in words:
        return args
    if verb == "fit" and checkpoint in ("last", "best"):
        run = run or str(latest_run())
        words = [*_without(words, "--ckpt_path"), "--ckpt_path", str(load_path(run, checkpoint))]
    elif verb == "fit":
        return args
    elif not run and not any(word.split("=")[0] in ("--config", "-c") for word in words):
        raise RecloomError(f"say which run: `recloom {verb} runs/DATA/MODEL`")
    elif run and checkpoint is None:
        words += ["--ckpt_path", str(best_checkpoint(Path(run)))]
    if run and not any(word.split("=")[0] in ("--config", "-c") for word in words):
        words = ["--config", str(Path(run) / "config.yaml"), "--run", run, *_without(words, "--run")]
    return [verb, *words]


def load_path(run: str, name: str) -> Path:
    """The checkpoint `last` or `best` of a run."""
    path = Path(run) / CHECKPOINTS / f"{name}.ckpt"
    if not path.is_file():
        raise RecloomError(
            f"{run} holds no {CHECKPOINTS}/{name}.ckpt to resume from. Start it with `recloom fit --run {run}`."
        )
    return path


def _value(words: list[str], flag: str) -> str | None:
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return None


def _without(words: list[str], flag: str) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip or word.startswith(flag + "="):
            skip = False
        elif word == flag:
            skip = True
        else:
            kept.append(word)
    return kept


def _component(class_path: str, **init_args: Any) -> Namespace:
    return Namespace(class_path=class_path, init_args=Namespace(**init_args))  # type: ignore[no-untyped-call]


def _is_ours(logger: Any) -> bool:
    """Whether a logger of a configuration is the one that a fit is given where none is asked for."""
    return getattr(logger, "class_path", "") == CSV and logger.init_args.get("name") == "logs"


def _class_name(recommender: Any) -> str:
    return str(recommender.class_path).rpartition(".")[2]
