"""Discover plugins, and collect by public name what they register."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from . import hookspecs
from .errors import PluginError

GROUP = "recloom"
BLOCK = "RECLOOM_BLOCK"
hookimpl = pluggy.HookimplMarker(GROUP)


class PluginWarning(UserWarning):
    """An installed plugin could not be loaded; the rest works without it."""


@cache
def manager() -> pluggy.PluginManager:
    """Load every installed plugin that `RECLOOM_BLOCK` (names, comma-separated) does not switch off."""
    found = pluggy.PluginManager(GROUP)
    found.add_hookspecs(hookspecs)
    blocked = blocked_names()
    for entry in installed():
        if entry.name in blocked:
            continue
        try:
            found.register(entry.load(), name=entry.name)
        except Exception as error:  # a plugin may fail in any way while it is imported
            _failed(entry.name, error)
    try:
        found.check_pending()
    except pluggy.PluginValidationError as error:
        known = ", ".join(sorted(n for n in vars(hookspecs) if n.startswith("register_")))
        raise PluginError(f"{error}. The hooks of Recloom are: {known}.") from error
    return found


def installed() -> list[EntryPoint]:
    """The entry points of group `recloom`, core first, then by name; a path seen twice counts once."""
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if "core" not in entries:  # running from a source tree that was never installed
        entries["core"] = EntryPoint("core", "recloom.defaults", GROUP)
    return sorted(entries.values(), key=lambda entry: (entry.name != "core", entry.name))


def blocked_names() -> set[str]:
    """Plugin names that the environment variable `RECLOOM_BLOCK` switches off."""
    return {name.strip() for name in os.environ.get(BLOCK, "").split(",") if name.strip()}


def collect(hook: str) -> dict[str, Any]:
    """Return everything registered under one hook, by public name, sorted by name.

    Raises PluginError when two plugins claim a name; both owners are in the message.
    A plugin whose hook cannot run is one PluginWarning that names it and the cause.
    """
    return {name: thing for name, (thing, _) in sorted(collect_with_owner(hook).items())}


def collect_with_owner(hook: str) -> dict[str, tuple[Any, str]]:
    """As `collect`, but each value is `(thing, name of the plugin that registered it)`."""
    found: dict[str, tuple[Any, str]] = {}
    for implementation in getattr(manager().hook, hook).get_hookimpls():
        owner = implementation.plugin_name
        try:
            things = list(implementation.function())
        except Exception as error:  # a plugin may fail in any way while its models are imported
            _failed(owner, error)
            continue
        for thing in things:
            name = public_name(thing)
            if name in found:
                raise PluginError(
                    f"{hook}: {name!r} is registered by plugin {found[name][1]!r} and again by {owner!r}. "
                    f"Rename one, or switch one off with {BLOCK}={owner}."
                )
            found[name] = (thing, owner)
    return found


def public_name(thing: Any) -> str:
    """The name users type: `name` where a string says so, else the class or function name."""
    name = getattr(thing, "name", None)
    return name if isinstance(name, str) else str(thing.__name__)


def load_object(path: str) -> Any:
    """Import `package.module:Name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names are imported when they are first used.

    Args:
        package: its `__name__`.
        modules: module, relative to the package, to the names taken from it, with blanks between them.
    """
    owners = {name: module for module, names in modules.items() for name in names.split()}

    def getattribute(name: str) -> Any:
        if name not in owners:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{owners[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def directory() -> list[str]:
        return sorted({*vars(sys.modules[package]), *owners})

    return getattribute, directory


load_errors: dict[str, str] = {}
"""What went wrong in this process, by plugin name; `recloom plugins` shows it."""


def _failed(plugin: str, error: Exception) -> None:
    cause = f"{type(error).__name__}: {error}"
    if load_errors.get(plugin) == cause:
        return
    load_errors[plugin] = cause
    if isinstance(error, PluginError):
        raise error
    warnings.warn(
        f"plugin {plugin!r} is installed but cannot be loaded ({cause})", PluginWarning, stacklevel=3
    )
