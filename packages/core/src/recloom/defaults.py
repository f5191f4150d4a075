"""Core's own models, losses, metrics, readers and commands, registered through the hooks like a plugin's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .plugins import hookimpl

if TYPE_CHECKING:
    from .data.readers import Reader
    from .losses import Loss
    from .metrics import Metric
    from .recommender import Recommender


@hookimpl
def register_models() -> Iterable[type[Recommender]]:
    from .models import core_models
    from .models.ctr import click_models

    return [*core_models(), *click_models()]


@hookimpl
def register_losses() -> Iterable[type[Loss]]:
    from .losses import core_losses

    return core_losses()


@hookimpl
def register_metrics() -> Iterable[Metric]:
    from .metrics import core_metrics

    return core_metrics()


@hookimpl
def register_readers() -> Iterable[type[Reader]]:
    from .data.readers import core_readers

    return core_readers()


@hookimpl
def register_language_models() -> Iterable[Any]:
    from .llm import core_language_models

    return core_language_models()


@hookimpl
def register_commands() -> Iterable[Callable[..., None]]:
    from .cli.environment import doctor, list_command, plugins
    from .cli.llm_commands import batch_export, plan
    from .cli.new_plugin import new_plugin
    from .data.prepare import commands as data
    from .demo.command import demo
    from .evaluation.compare import compare_command
    from .experiments.commands import bench_command
    from .llm import LEDGER_COMMANDS
    from .runs.add_items import add_items
    from .runs.recommend import recommend_command

    return [
        demo,
        *data.COMMANDS,
        plugins,
        list_command,
        doctor,
        bench_command,
        compare_command,
        new_plugin,
        recommend_command,
        add_items,
        *LEDGER_COMMANDS,
        batch_export,
        plan,
    ]
