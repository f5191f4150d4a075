"""The options of a reader are its constructor's arguments: what it takes, what was given, what is refused."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...plugins import collect
from ..readers import Reader, typed_options


def readers() -> dict[str, type[Reader]]:
    """Every installed reader by name."""
    return collect("register_readers")


def reader_named(name: str) -> type[Reader]:
    """The reader of that name. Raises DataError that lists the names."""
    known = readers()
    if name not in known:
        raise DataError(f"no reader is called {name!r}. Installed: {', '.join(known)}, or `auto`.")
    return known[name]


def taken_by(reader: type[Reader]) -> dict[str, inspect.Parameter]:
    """The arguments of a reader's constructor by name."""
    return dict(inspect.signature(reader).parameters)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say something: neither None nor an empty list."""
    return {name: value for name, value in options.items() if value is not None and value != []}


def make_reader(reader: type[Reader], options: Mapping[str, Any]) -> Reader:
    """A reader with its options. Raises DataError that names an option which it does not take."""
    refuse_unused(reader, options)
    return reader(**given(options))


def refuse_unused(reader: type[Reader], options: Mapping[str, Any]) -> None:
    """Raise DataError that names an option which the reader does not take, and the nearest of those it does."""
    takes = taken_by(reader)
    unused = sorted(set(given(options)) - set(takes))
    if unused:
        flag, known = _flag(unused[0]), [_flag(name) for name in sorted(takes)]
        near = difflib.get_close_matches(flag, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise DataError(
            f"the reader {reader.name!r} does not use {flag}.{hint} It takes {', '.join(known) or 'none of them'}. "
            f"Leave {flag} out."
        )


def recorded(reader: type[Reader], options: Mapping[str, Any]) -> dict[str, Any]:
    """What was given and is no default, as plain values; of paths the names alone."""
    takes = taken_by(reader)
    return {name: _plain(value) for name, value in given(options).items() if value != takes[name].default}


def refuse_options(path: Path, options: Mapping[str, Any]) -> None:
    """Raise DataError where a prepared dataset was given options of a reader."""
    if given(options):
        raise DataError(
            f"{path} is a prepared dataset, which is read as it is. Leave out {typed_options(given(options))}."
        )


def readers_of(words: Sequence[str]) -> list[type[Reader]]:
    """The readers whose options a command line may hold: the one that it names, all for `auto` and a path, else none.

    Raises DataError for an option that other readers take and the one that is named does not.
    """
    known = readers()
    named = [
        word
        for place, word in enumerate(words)
        if not word.startswith("-") and (not place or not words[place - 1].startswith("--"))
    ]
    name = next((word for word in (*named, *words) if word == "auto" or word in known), None)
    if name is None and not named:
        return []
    if name is None or name == "auto":  # a path stands where a reader may be named
        return list(known.values())
    reader = known[name]
    flags = [word.partition("=")[0][2:].replace("-", "_") for word in words if word.startswith("--")]
    foreign = {name for other in known.values() for name in taken_by(other)} - set(taken_by(reader))
    refuse_unused(reader, {name: True for name in flags if name in foreign})
    return [reader]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.name if isinstance(value, Path) else value
