"""Lightning's command line as every run uses it: one folder, whole checkpoints, a bar, and how it is stopped."""

from __future__ import annotations

import inspect
import itertools
import os
import sys
import traceback
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar, Timer, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from ..errors import RecloomError, Terminated
from ..io import unwritable
from ..llm import LanguageModel, without_call_options
from ..next_steps import command_line
from ..parse_errors import ANYWHERE, CommandLine, ComponentOption, explain
from ..plugins import collect
from ..run_folder import (
    CHECKPOINTS,
    RECORD,
    finished,
    leave_nothing,
    make_room,
    new_run,
    remove_results,
    write_config,
)
from ..spec import refuse_foreign
from ..training.callbacks import EarlyStop, FitClock, TrainingBar
from ..training.checkpoint import LastCheckpoint, RunCheckpoint, best_score
from ..training.signals import silence, stopped_by_sigterm
from .config_files import own_yaml, read_yaml
from .words import CONFIG_FLAGS

SHARED_RUN = "RECLOOM_RUN"
"""Tells the other processes of a distributed fit which folder the first one chose."""
MONITOR = "val/ndcg@10"
VERBS = ("fit", "validate", "test", "predict")
OTHER_OPTIONS = (
    "run", "overwrite", "config", "ckpt_path", "seed_everything", "trainer.max_epochs", "trainer.max_time",
    "trainer.accelerator", "trainer.devices", "trainer.precision", "trainer.enable_progress_bar",
    "trainer.gradient_clip_val", "checkpoint.monitor", "last.every_n_train_steps",
)  # fmt: skip
"""Beside those of model, data and early stopping: what is set often, so that a slip of the finger finds it."""
NEEDED = {"model.recommender": "--model NAME, such as SASRec", "data.path": "--data DIR, a prepared dataset"}
"""What to say for an option that is missing."""
CSV = "lightning.pytorch.loggers.CSVLogger"


class SaveConfig(SaveConfigCallback):
    """Write the full configuration to `config.yaml` in the run folder once training has begun.

    Not in `setup`, as Lightning's own does, but after all state of a checkpoint is restored: a resumed fit that is
    refused must leave the run as it was.
    """

    _written = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        return None

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if trainer.training:
            _refuse_fewer_epochs(trainer, checkpoint)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._write(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._write(trainer)  # where there was nothing to train

    def _write(self, trainer: Any) -> None:
        if self._written or not trainer.is_global_zero:
            return
        self._written = True
        run = Path(trainer.default_root_dir)
        header = "".join(f"# {line}\n" for line in self.parser.dump_header or ())
        write_config(run, header + stored(self.parser.dump(self.config, skip_unset=False)))
        remove_results(run)
        (run / RECORD).unlink(missing_ok=True)  # until this fit has ended


def _refuse_fewer_epochs(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint that has more epochs than are asked for; none were trained without steps."""
    epochs, most = checkpoint["epoch"] + 1, trainer.max_epochs
    if checkpoint["global_step"] and most is not None and 0 <= most < epochs:
        raise RecloomError(
            f"{trainer.ckpt_path} has come to epoch {epochs} already, and --trainer.max_epochs {most} asks for fewer. "
            f"Ask for more, such as --trainer.max_epochs {epochs + 1}."
        )


def stored(config: str) -> str:
    """The YAML of a configuration without what is given anew at each command: ledger and limits of language models."""
    given = read_yaml(config)
    kept = without_call_options(given)
    return config if kept == given else yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def seed_of(seed_everything: bool | int) -> int:
    """The seed of the data: with `true` what Lightning takes and keeps in the configuration; `false` is 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed_everything is True else int(seed_everything)


class RunCLI(LightningCLI):
    """LightningCLI of which a run is one folder, whatever is trained in it."""

    defaults: ClassVar[dict[str, Any]] = {}
    """Values of options where neither words nor a config file say otherwise."""
    keeps_hyperparameters: ClassVar[bool] = True
    """Whether what is trained may call `save_hyperparameters`, for which Lightning writes out the configuration."""

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
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
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
        self.verb_parser = parser
        self.usual = {option: parser.get_default(option) for option in self.defaults}
        parser.set_defaults(self.defaults)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=seed_of)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        refuse_foreign(config.model.as_dict(), "model")
        shared = os.environ.pop(SHARED_RUN, None)
        first = shared is None and os.environ.get("LOCAL_RANK", "0") == "0"
        if not (config.run or shared) and "LOCAL_RANK" in os.environ:
            raise RecloomError(
                "this program runs in several processes, which must agree on the folder of the run. "
                "Name it with --run, or in Python with run=."
            )
        given = config.run or shared
        run = Path(given) if given else new_run(*self.named(config))
        if first:
            os.environ[SHARED_RUN] = str(run)
        if self.subcommand == "fit" and first:
            make_room(run, resume=config.ckpt_path is not None, overwrite=config.overwrite)
        config.overwrite = False  # a config kept in the run must not replace another one later
        config.run = str(run)
        if self.subcommand != "fit":
            self._measured(config, run)
        self._watch(config)
        config.trainer.default_root_dir = str(run)
        config.checkpoint.dirpath = config.last.dirpath = str(run / CHECKPOINTS)
        config.trainer.plugins = _component("recloom.training.checkpoint.AtomicCheckpointIO")
        if "verbose" in config:
            config.verbose = False  # the table with intervals is shown instead
        if self.subcommand == "fit" and (config.trainer.logger is None or _is_ours(config.trainer.logger)):
            config.trainer.logger = _component(CSV, save_dir=str(run), name="logs")

    def before_fit(self) -> None:
        """Let `trainer.ckpt_path` say already during the set-up that state comes from a file."""
        given = self.config_init[self.subcommand]
        if given.ckpt_path is not None and Path(given.ckpt_path).is_file():
            self.trainer.ckpt_path, given.ckpt_path = given.ckpt_path, None

    def after_instantiate_classes(self) -> None:
        usual = (RichProgressBar, TQDMProgressBar)  # what Lightning puts there unasked
        trainer: Any = self.trainer
        trainer.callbacks = [TrainingBar() if type(one) in usual else one for one in trainer.callbacks]
        trainer.callbacks.insert(0, FitClock())

    def named(self, config: Any) -> tuple[str, str]:
        """Of what data and what model the folder of a new run is named after."""
        raise NotImplementedError

    def not_a_fit(self, config: Any, run: Path) -> None:
        """Before a run is measured: find its data wherever they are now."""
        raise NotImplementedError

    def watched(self, config: Any) -> tuple[str, str] | None:
        """Metric and mode to watch where none was asked for; None = MONITOR."""
        raise NotImplementedError

    def _measured(self, config: Any, run: Path) -> None:
        """A run is measured without logs of its own."""
        config.trainer.logger = False
        self.not_a_fit(config, run)
        if self.subcommand == "test" and (reason := unwritable(run)):
            raise RecloomError(
                f"the results cannot be kept in {run}, where no file can be made ({reason}). Copy the run, and "
                "test that."
            )

    def _watch(self, config: Any) -> None:
        unasked = [one for one in (config.checkpoint, config.early_stopping) if one.monitor == MONITOR]
        found = self.watched(config) if unasked else None
        if found is not None:
            for watcher in unasked:
                watcher.monitor, watcher.mode = found

    def after_validate(self) -> None:
        for name, value in self.trainer.callback_metrics.items():
            print(f"{name:20} {float(value):.4f}")

    def tell_interrupted(self) -> None:
        """Where the fit did not come to its end, say so, and how to go on."""
        folder = Path(self.trainer.default_root_dir)
        if not finished(folder):
            print(f"training was interrupted: this is the state it had reached ({_go_on(folder)})")


Line = TypeVar("Line", bound=RunCLI)


def how_far(trainer: Any) -> str:
    """How far training went, which limit ended it, and what it reached on the validation part."""
    if not trainer.current_epoch:
        return ""
    epochs, best, limit = trainer.current_epoch, best_score(trainer), _limit(trainer)
    parts = [
        f"{epochs} epoch{'' if epochs == 1 else 's'}",
        "" if best is None else f"best {best[0]} {best[1]:.4f}",
        limit and f"stopped {limit}",
    ]
    return "".join(f", {part}" for part in parts if part)


def _limit(trainer: Any) -> str:
    """Which limit ended training."""
    watchers = [one for one in trainer.callbacks if isinstance(one, EarlyStopping) and one.stopped_epoch]
    if watchers:
        first = watchers[0]
        why = first.why() if isinstance(first, EarlyStop) else f"{type(first).__name__} on {first.monitor}"
        return f"early: {why}"
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"by --trainer.max_steps {trainer.max_steps}"
    left = [one.time_remaining() for one in trainer.callbacks if isinstance(one, Timer)]
    if any(seconds is not None and seconds <= 0 for seconds in left):
        return "by --trainer.max_time"
    if 0 <= (trainer.max_epochs or -1) <= trainer.current_epoch:
        return f"by --trainer.max_epochs {trainer.max_epochs}"
    return ""


def with_defaults(line: type[Line], defaults: dict[str, Any]) -> type[Line]:
    """The command line with other defaults of options, such as those of the model that is trained."""
    return type(line.__name__, (line,), {"defaults": dict(defaults)})


def with_one_verb(line: type[Line], verb: str) -> type[Line]:
    """The command line with options for one of VERBS: making those of all four takes four times as long."""
    options = {verb: LightningCLI.subcommands()[verb]}
    return type(line.__name__, (line,), {"subcommands": staticmethod(lambda: options)})


def start(line: type[Line], module: type, data: type, args: Any) -> Line:
    """Run a command line of Lightning; what it cannot read and what stops it is told in our words."""
    silence()
    quiet = {"exit_on_error": False, "parser_mode": own_yaml(), "allow_abbrev": False}
    verb = args["subcommand"] if isinstance(args, dict) else args[0] if args else None
    if verb in VERBS:
        line = with_one_verb(line, verb)
    parsers: dict[str, Any] = dict.fromkeys(line.subcommands(), quiet)
    try:
        with stopped_by_sigterm():
            return line(
                module,
                data,
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
                load_from_checkpoint_support=line.keeps_hyperparameters,
            )
    except ArgumentError as error:
        raise RecloomError(explain(str(error), _options(args, module, data))) from error
    except (SystemExit, KeyboardInterrupt) as stop:
        cause = stop if isinstance(stop, KeyboardInterrupt) else stop.__context__
        if not isinstance(cause, KeyboardInterrupt):
            raise
        raise type(cause)(_stopped(cause, verb=args[0] if isinstance(args, list) else "fit")) from None
    except MisconfigurationException as error:
        advice = (
            " Look at what this machine has with `recloom doctor`; --trainer.accelerator cpu always works."
        )
        raise RecloomError(f"{error}{advice if _of_the_machine(error) else ''}") from error
    finally:
        begun = os.environ.pop(SHARED_RUN, None)  # the next fit of this process has a folder of its own
        if begun and sys.exc_info()[0]:
            leave_nothing(Path(begun))


def _options(args: Any, module: type, data: type) -> CommandLine:
    """What the command line takes, for its mistakes; `args` are its words, or a dict of options."""
    words = list(map(str, args)) if isinstance(args, list) else ["fit"]
    groups = {"model": module, "data": data, "early_stopping": EarlyStop}
    options = [
        f"{group}.{name}" for group, kind in groups.items() for name in inspect.signature(kind).parameters
    ]
    models, losses, asked = map(collect, ("register_models", "register_losses", "register_language_models"))
    pairs = itertools.pairwise(words)
    return CommandLine(
        options=[*options, *OTHER_OPTIONS],
        help=f"`recloom {words[0]} --help` shows examples, and --help-all lists all options.",
        components={
            "model.recommender": ComponentOption(models | collect("register_modules"), "models"),
            "model.loss": ComponentOption(losses, "losses"),
            "*.llm.model": ComponentOption(
                {name: one for name, one in asked.items() if issubclass(one, LanguageModel)},
                "language models",
            ),
            ANYWHERE: ComponentOption(models | losses | asked, "names to choose from"),
        },
        needed=NEEDED,
        verbs=VERBS,
        files=[word for flag, word in pairs if flag in CONFIG_FLAGS]
        + [word.partition("=")[2] for word in words if word.startswith("--config=")],
    )


def _stopped(cause: KeyboardInterrupt, verb: str) -> str:
    """What to say where somebody stopped the work: what is left of it, and how to go on."""
    word = str(cause) or ("terminated" if isinstance(cause, Terminated) else "interrupted")
    if verb != "fit":
        return word
    folder = Path(os.environ.get(SHARED_RUN, ""))
    kept = (folder / CHECKPOINTS / "last.ckpt").is_file()
    return f"{word}; {_go_on(folder) if kept else 'nothing was kept yet'}"


def _go_on(run: Path) -> str:
    return f"go on with: {command_line('fit', '--run', run, '--ckpt_path', 'last')}"


def _of_the_machine(error: Exception) -> bool:
    """Whether Lightning refused an accelerator or a device, seen by the modules that the error came through."""
    frames = traceback.walk_tb(error.__traceback__)
    return any("accelerator" in frame.f_globals.get("__name__", "") for frame, _ in frames)


def _component(class_path: str, **init_args: Any) -> Namespace:
    return Namespace(class_path=class_path, init_args=Namespace(**init_args))  # type: ignore[no-untyped-call]


def _is_ours(logger: Any) -> bool:
    """Whether a logger of a configuration is the one that a fit is given where none is asked for."""
    return getattr(logger, "class_path", "") == CSV and logger.init_args.get("name") == "logs"
