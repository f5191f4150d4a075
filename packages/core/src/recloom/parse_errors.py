"""What the parser of a command's options complains of, in words: the option, what it takes, what was found."""

from __future__ import annotations

import difflib
import inspect
import re
import typing
from collections.abc import Collection, Mapping
from typing import Any

from .errors import RecloomError
from .plugins import collect
from .spec import find, unknown

HOOK = "register_language_models"


def explain(said: str, kinds: Mapping[str, Any], places: Collection[str]) -> str:
    """One sentence or two.

    Args:
        said: the parser's message.
        kinds: type by option.
        places: options that stand at a place and have no flag.
    """
    for reader in (_missing, _wrong_name, _wrong_part, _out_of_bounds, _wrong_value, _unknown):
        found = reader(said, kinds, places)
        if found:
            return found if found.endswith((".", "?")) else f"{found}."
    return f"{said}."


def _missing(said: str, kinds: Mapping[str, Any], places: Collection[str]) -> str | None:
    missing = re.search(r"following arguments are required: ([\w., ]+)", said)
    if missing is None:
        return None
    inside = re.search(r'Parser key "([\w.]+)"', said)
    before = f"{inside[1]}." if inside else ""
    names = [f"{before}{name.strip()}" for name in missing[1].split(",")]
    words = "say " + ", ".join(name.upper() if name in places else f"--{name}" for name in names)
    known = _known(kinds.get(names[0])) if len(names) == 1 else []
    return f"{words}: one of {', '.join(known)}" if known else words


def _wrong_name(said: str, kinds: Mapping[str, Any], places: Collection[str]) -> str | None:
    """A language model or an encoder that does not exist."""
    found = re.search(r'Parser key "([\w.]+)".*Expected a dot import path string: (\S+)', said, re.S)
    known = _known(kinds.get(found[1])) if found else []
    if found is None or not known:
        return None
    return f"--{found[1]}: " + unknown(found[2], known, "names to choose from")


def _known(kind: Any) -> list[str]:
    """Names of the installed language models or encoders that an option of this type takes."""
    classes = _classes(kind)
    return [name for name, thing in collect(HOOK).items() if issubclass(thing, classes)] if classes else []


def _wrong_part(said: str, kinds: Mapping[str, Any], places: Collection[str]) -> str | None:
    """An option that a class does not have."""
    found = re.search(
        r"Parser key \"([\w.]+)\".*class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted", said, re.S
    )
    if found is None:
        return None
    key, path, option = found.groups()
    short = path.rpartition(".")[2]
    if any(kind.__name__ == short for kind in _classes(kinds.get(key)) if kind.__module__ == "recloom.llm"):
        return f"say --{key} NAME before --{key}.{option}"
    return f"--{key}.{option}: " + unknown(option, _parameters(path), f"options of {short}").replace(
        "Installed:", "It has:"
    )


def _out_of_bounds(said: str, kinds: Mapping[str, Any], places: Collection[str]) -> str | None:
    """A number that pydantic refuses."""
    found = re.search(r'Parser key "([\w.]+)".*(Input should be [^\[]+?) \[.*Got value: (.+)$', said, re.S)
    return f"--{found[1]}: {found[2]}; found {found[3]!r}" if found else None


def _wrong_value(said: str, kinds: Mapping[str, Any], places: Collection[str]) -> str | None:
    """A value of another type, or none of the choices."""
    key = ".".join(re.findall(r'Parser key "([\w.]+)"', said))
    wanted = re.findall(r"Expected an? (.+?)(?:\. Got value: .+)?$", said, re.M)
    given = re.search(r"(?:Got|Given) value: (.+)$", said, re.M)
    if not key or not wanted or given is None:
        return None
    value = re.sub(r"NestedArg\(key='\w+', val=(.+)\)", r"\1", given[1]).strip("'\"")
    flag = key.upper() if key in places else f"--{key}"
    listed = re.fullmatch(r"typing\.Literal\[(.+)\]", wanted[0])
    if listed is None:
        names = [
            re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", one).replace("NoneType", "null") for one in wanted
        ]
        return f"{flag} takes {' or '.join(dict.fromkeys(names))}; found {value!r}"
    choices = [name.strip().strip("'\"") for name in listed[1].split(",")]
    return f"{flag} takes one of {', '.join(choices)}; found {value!r}" + _hint(value, choices, "")


def _unknown(said: str, kinds: Mapping[str, Any], places: Collection[str]) -> str | None:
    found = re.search(r"[Uu]nrecognized arguments: (--[\w.-]+)", said)
    if found is None:
        return None
    return f"{found[1]} is not an option" + _hint(
        found[1][2:], [name for name in kinds if name not in places], "--"
    )


def _hint(name: str, known: Collection[str], before: str) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f". Did you mean {before}{near[0]}?" if near else ""


def _classes(kind: Any) -> tuple[type, ...]:
    """The classes of a type such as `LanguageModel | None`."""
    parts = typing.get_args(kind) or (kind,)
    return tuple(part for part in parts if inspect.isclass(part) and part is not type(None))


def _parameters(path: str) -> list[str]:
    try:
        return list(inspect.signature(find(HOOK, path)).parameters)
    except RecloomError:  # no language model, but such as Prices
        from .plugins import load_object

        return list(inspect.signature(load_object(":".join(path.rsplit(".", 1)))).parameters)
