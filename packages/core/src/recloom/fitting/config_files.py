"""Config files name components by their public names, and old import paths in them still hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from ..errors import RecloomError
from ..spec import with_import_paths, with_public_names
from .words import CONFIG_FLAGS, values

MODE = "recloom"
OURS = "AtomicCheckpointIO"
"""The last part of what every run is given as `trainer.plugins`, whatever its config says."""


def own_yaml() -> str:
    """The mode of a parser that writes public names, and resolves names and old paths before it looks at a value."""
    set_loader(MODE, _read, exceptions=(yaml.YAMLError,))
    set_dumper(MODE, _written)
    return MODE


def read_yaml(text: str) -> Any:
    """What YAML says, read by libyaml where that is installed: ten times as fast. Raises yaml.YAMLError."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


NAMING = ("--model.recommender", "--model.loss", "--model.recommender.class_path", "--model.loss.class_path")
"""Options whose value names a component."""


def check_config_files(words: Sequence[str]) -> None:
    """Raise RecloomError for a configuration file that is not there, cannot be read or holds no options."""
    for given in (path for flag in CONFIG_FLAGS for path in values(list(words), flag)):
        path = Path(given)
        holds = "expected a configuration, options as YAML such as the config.yaml of a run"
        try:
            found = yaml.safe_load(path.read_text("utf-8"))
        except OSError as error:
            if ":" in given:  # options as YAML in the word itself
                continue
            raise RecloomError(
                f"{path}: {holds}; found no file that can be read ({error.strerror})."
            ) from error
        except UnicodeDecodeError as error:
            raise RecloomError(
                f"{path}: {holds}, in UTF-8; found the byte 0x{error.object[error.start]:02x} at place {error.start}, "
                "which is not UTF-8. Save it as UTF-8."
            ) from error
        except yaml.YAMLError as error:
            why = " ".join(str(error).replace('"<unicode string>", ', "").split())
            raise RecloomError(f"{path}: {holds}; found what is no YAML: {why}.") from error
        if not isinstance(found, dict):
            what = "nothing" if found is None else f"{type(found).__name__} without names of options"
            raise RecloomError(
                f"{path}: {holds}; found {what}. Write options into it, such as model: and data:, or leave --config "
                "out."
            )


def words_with_import_paths(words: Sequence[str]) -> list[str]:
    """Expanded words in which every registered component stands by the path it is imported from now."""
    found = []
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if equals and flag in NAMING:
            found.append(f"{flag}={_imported(value)}")
        else:
            found.append(_imported(word) if place and words[place - 1] in NAMING else word)
    return found


def _imported(name: str) -> str:
    path: str = with_import_paths({"class_path": name})["class_path"]
    return path


def _read(text: str) -> Any:
    value = get_loader("yaml")(text)
    if not isinstance(value, dict):
        return value
    return with_import_paths(_without_ours(value))


def _written(value: dict[str, Any]) -> str:
    return yaml.safe_dump(with_public_names(_without_ours(value)), allow_unicode=True, sort_keys=False)


def _without_ours(value: dict[str, Any]) -> dict[str, Any]:
    trainer = value.get("trainer")
    plugins = trainer.get("plugins") if isinstance(trainer, dict) else None
    if not isinstance(plugins, dict) or str(plugins.get("class_path")).rpartition(".")[2] != OURS:
        return value
    return {**value, "trainer": {**value["trainer"], "plugins": None}}
