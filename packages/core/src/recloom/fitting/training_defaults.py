"""How a recommender is trained where neither words nor a config file say otherwise: `training_defaults` as options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import RecloomError
from ..spec import registered, unknown
from .words import value, values

if TYPE_CHECKING:
    from ..recommender import Recommender

OPTIONS = {
    "batch_size": "data.batch_size",
    "lr": "model.lr",
    "weight_decay": "model.weight_decay",
    "warmup_steps": "model.warmup_steps",
    "schedule": "model.schedule",
    "max_epochs": "trainer.max_epochs",
    "patience": "early_stopping.patience",
}
"""What `training_defaults` may hold, and the option that it is."""


def option_defaults(kind: type[Recommender]) -> dict[str, Any]:
    """The option and value of each of its training defaults. RecloomError for one that there is not."""
    for name in kind.training_defaults:
        if name not in OPTIONS:
            what = f"training defaults ({kind.__name__}.training_defaults)"
            raise RecloomError(unknown(name, OPTIONS, what).replace("Installed:", "There are:"))
    return {OPTIONS[name]: default for name, default in kind.training_defaults.items()}


def chosen_model(args: Sequence[str] | dict[str, Any]) -> type[Recommender] | None:
    """The recommender that expanded words, or a configuration, ask for; None where that is not to be seen."""
    if isinstance(args, dict):
        return _known(_named(args[args["subcommand"]]))
    words = list(args)
    given = value(words, "--model.recommender.class_path") or value(words, "--model.recommender")
    if given is not None:
        return _known(given)
    for path in reversed([*values(words, "--config"), *values(words, "-c")]):
        try:
            with open(path, encoding="utf-8") as file:
                name = _named(yaml.safe_load(file))
        except (OSError, ValueError, yaml.YAMLError):  # the parser says what is wrong with it
            continue
        if name is not None:
            return _known(name)
    return None


def training_help(name: str) -> str:
    """What `--help` says of the training of a recommender: its own defaults, or that it has none."""
    kind = _known(name)
    found = {} if kind is None else option_defaults(kind)
    if not found:
        return f"{name} is trained with the defaults of `recloom fit`."
    options = " ".join(f"--{option} {default}" for option, default in found.items())
    return f"Where nothing else is said, {name} is trained with\n  {options}"


def _named(config: Any) -> str | None:
    """The class of `model.recommender` in a configuration."""
    for key in ("model", "recommender", "class_path"):
        config = config.get(key) if isinstance(config, dict) else config if key == "class_path" else None
    return config if isinstance(config, str) else None


def _known(name: str | None) -> type[Recommender] | None:
    from ..recommender import Recommender

    kind = None if name is None else registered(name)
    return kind if isinstance(kind, type) and issubclass(kind, Recommender) else None
