"""`recloom fit|validate|test|predict`: Lightning's command line with short names, and the same in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from ..data.batches.module import RecDataModule
from ..evaluation.results import show
from ..llm import llm_identity
from ..metrics import parse_metric
from ..next_steps import then
from ..plugins import collect
from ..run_folder import CHECKPOINTS, VECTORS, find_dataset, find_vectors, write_record
from ..runs.run import Run, load, write_predictions
from ..spec import find, with_import_paths
from ..training.callbacks import clock_of
from ..training.checkpoint import best_score
from ..training.measurement import Measurement
from ..training.module import RecModule
from .config_files import check_config_files, words_with_import_paths
from .lightning_cli import MONITOR, RunCLI, how_far, start, with_defaults
from .task_cli import chosen, run_task
from .training_defaults import chosen_model, known_recommender, option_defaults, training_help
from .words import expand, value, with_run_folder


class RecCLI(RunCLI):
    """The command line of RecModule and RecDataModule."""

    keeps_hyperparameters = False

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """The parsed model decides whose training defaults hold, where its words had told another one or none."""
        super().parse_arguments(parser, args)
        kind = known_recommender(self.config[self.config.subcommand].model.recommender.class_path)
        own = {} if kind is None else option_defaults(kind)
        if own != self.defaults:
            self.verb_parser.set_defaults(self.usual | own)
            super().parse_arguments(parser, args)

    def named(self, config: Any) -> tuple[str, str]:
        """A loss that was asked for is part of the name: runs of several losses are told apart by it."""
        classes = [config.model.recommender.class_path]
        if config.model.loss is not None:
            classes.append(config.model.loss.class_path)
        return config.data.path, "-".join(str(one).rpartition(".")[2] for one in classes)

    def not_a_fit(self, config: Any, run: Path) -> None:
        config.data.path = str(find_dataset(run, config.data.path))
        for name in VECTORS:
            config.data[name] = find_vectors(run, config.data[name], name)

    def watched(self, config: Any) -> tuple[str, str] | None:
        """The first of the metrics, where MONITOR is not among them."""
        first = next(iter(config.model.metrics), "")
        if MONITOR.removeprefix("val/") in config.model.metrics or not first:
            return None
        metric, _ = parse_metric(first, collect("register_metrics"))
        return f"val/{first}", "max" if metric.higher_is_better else "min"

    def before_fit(self) -> None:
        super().before_fit()
        if training_free(self.model):
            self.trainer.fit_loop.max_epochs = 0
            self.trainer.num_sanity_val_steps = 0

    def after_fit(self) -> None:
        finish_fit(self.trainer, self.model, self.datamodule)

    def after_test(self) -> None:
        if not self.trainer.is_global_zero:  # every process has measured all requests
            return
        show(Run.of(self.trainer.default_root_dir, self.model).write_results(self.datamodule))
        measured: Measurement = self.model.measurement
        if measured.masked_targets:
            print(
                f"{measured.masked_targets:,} held-out items stand in the masked history, so nothing can find them; "
                "--data.seen kept would let them be recommended again"
            )
        self.tell_interrupted()

    def after_validate(self) -> None:
        if self.trainer.is_global_zero:
            super().after_validate()
            self._print_usage()

    def _print_usage(self) -> None:
        if self.model.usage is not None:
            print(self.model.usage)

    def after_predict(self) -> None:
        if not self.trainer.is_global_zero:
            return
        path = Path(self.trainer.default_root_dir) / "predictions.parquet"
        write_predictions(path, self.trainer.predict_loop.predictions, self.model.catalog)
        print(f"wrote {path}")
        self._print_usage()


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
        found, clock = best_score(trainer), clock_of(trainer)
        write_record(
            folder,
            trainer,
            module,
            data,
            llm_identity(module.recommender.modules()),
            None if found is None else found[1],
            seconds=clock.seconds,
            cpu_seconds=clock.cpu_seconds,
        )
        print(f"trained: {folder}{how_far(trainer)} ({then('test', folder)})")


def run_command(args: Sequence[str]) -> RunCLI:
    """Run `fit`, `validate`, `test` or `predict` from command-line words."""
    words = with_run_folder(expand(list(args)))
    check_config_files(words)
    kind = chosen(words)
    explained = value(words, "--model.recommender.help")
    if explained is not None:
        print(training_help(explained))
    return _run(words) if kind is None else run_task(kind, words)


def fit(
    data: str | Path,
    model: str,
    options: dict[str, Any] | None = None,
    *,
    loss: str | dict[str, Any] | None = None,
    run: str | Path | None = None,
    seed: int = 0,
    max_epochs: int | None = None,
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
        max_epochs: epochs at most, by default those that the recommender asks for, else 50; training stops earlier
            when validation no longer improves.
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
    if max_epochs is not None:
        given["trainer"] = {"max_epochs": max_epochs} | given["trainer"]
    if run is not None:
        given["run"] = str(run)
    cli = _run({"subcommand": "fit", "fit": given})
    return load(cli.trainer.default_root_dir)


def _run(args: Any) -> RecCLI:
    collect("register_models"), collect("register_losses"), collect("register_language_models")
    args = with_import_paths(args) if isinstance(args, dict) else words_with_import_paths(args)
    kind = chosen_model(args)
    line = RecCLI if kind is None else with_defaults(RecCLI, option_defaults(kind))
    return start(line, RecModule, RecDataModule, args)
