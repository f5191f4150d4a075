"""Config files name components by their public names, and old import paths in them still hold."""

from __future__ import annotations

from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from ..spec import with_import_paths, with_public_names

MODE = "recloom"
OURS = "AtomicCheckpointIO"
"""The last part of what every run is given as `trainer.plugins`, whatever its config says."""


def own_yaml() -> str:
    """The mode of a parser that writes public names, and resolves names and old paths before it looks at a value."""
    set_loader(MODE, _read, exceptions=(yaml.YAMLError,))
    set_dumper(MODE, _written)
    return MODE


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
