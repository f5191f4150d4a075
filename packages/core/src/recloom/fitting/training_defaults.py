"""How a recommender is trained where neither words nor a config file say otherwise: `training_defaults` as options."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import RecloomError
from ..spec import find, registered, unknown
from .config_files import read_yaml
from .words import options_in_order

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
    "patience_steps": "early_stopping.patience_steps",
}
"""What `training_defaults` may hold, and the option that it is."""
RECOMMENDER = ("model", "recommender", "class_path")
"""Where a configuration names the recommender."""


def option_defaults(kind: type[Recommender]) -> dict[str, Any]:
    """The option and value of each of its training defaults. RecloomError for one that there is not."""
    for name in kind.training_defaults:
        if name not in OPTIONS:
            what = f"training defaults ({kind.__name__}.training_defaults)"
            raise RecloomError(unknown(name, OPTIONS, what).replace("Installed:", "There are:"))
    return {OPTIONS[name]: default for name, default in kind.training_defaults.items()}


def chosen_model(args: Sequence[str] | dict[str, Any]) -> type[Recommender] | None:
    """The recommender that expanded words, or a configuration, ask for; None where that is not to be seen."""
    given = _named(args[args["subcommand"]], RECOMMENDER) if isinstance(args, dict) else chosen_name(args)
    return known_recommender(given)


def chosen_name(words: Sequence[str]) -> str | None:
    """The name that expanded words give to the recommender, themselves or in a config file: the last one counts."""
    name = None
    for flag, given in options_in_order(words):
        if flag in ("--config", "-c"):
            name = _named(_content(given), RECOMMENDER) or name
        elif flag in ("--model.recommender", "--model.recommender.class_path"):
            name = _named(_content(given), RECOMMENDER[-1:]) or name
    return name


def training_help(name: str) -> str:
    """What `--help` says of the training of a recommender: its own defaults, or that it has none."""
    kind = known_recommender(name)
    found = {} if kind is None else option_defaults(kind)
    if not found:
        return f"{name} is trained with the defaults of `recloom fit`."
    options = " ".join(f"--{option} {default}" for option, default in found.items())
    return f"Where nothing else is said, {name} is trained with\n  {options}"


def _named(value: Any, keys: Sequence[str]) -> str | None:
    """The name under nested keys, which may also be joined by dots; a component may stand by its name alone."""
    if isinstance(value, str) and (not keys or keys == RECOMMENDER[-1:]):
        return value
    if not isinstance(value, dict):
        return None
    for count in range(1, len(keys) + 1):
        found = _named(value.get(".".join(keys[:count])), keys[count:])
        if found is not None:
            return found
    return None


def _content(given: str) -> Any:
    """The YAML of a file, or of the word itself where there is no such file."""
    try:
        path = Path(given)
        return read_yaml(path.read_text("utf-8") if path.is_file() else given)
    except (OSError, ValueError, yaml.YAMLError):  # the parser says what is wrong with it
        return None


def known_recommender(name: str | None) -> type[Recommender] | None:
    """The recommender of a public name or an import path; None where there is none."""
    from ..recommender import Recommender

    kind = None if name is None else registered(name)
    parts = [] if name is None else name.split(".")
    if kind is None and len(parts) > 1 and all(map(str.isidentifier, parts)):
        with suppress(Exception):  # of whatever module it is: the parser says what is wrong with it
            kind = find("register_models", str(name))
    return kind if isinstance(kind, type) and issubclass(kind, Recommender) else None
