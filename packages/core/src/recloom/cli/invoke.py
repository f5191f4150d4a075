"""Find a command by its words, parse its options by its signature, and call it."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import re
import typing
from collections.abc import Callable
from typing import Any

from ..errors import RecloomError
from ..parse_errors import CommandLine, ComponentOption, explain
from ..plugins import collect
from ..spec import unknown
from .help import HELP

COMPONENTS = ("LanguageModel", "TextEncoder")
"""Types whose classes are chosen by name, so that plugins must have said which there are."""
SECTION = re.compile(r"^(?:Args|Raises|Returns):$", re.MULTILINE)


def find_command(args: list[str]) -> tuple[str, Callable[..., Any], list[str]] | None:
    """Name and function of the command that the words begin with, and the words after it; None where none does."""
    commands = collect("register_commands")
    for count in (2, 1):
        name = " ".join(args[:count])
        if len(args) >= count and name in commands:
            return name, commands[name], args[count:]
    return None


def no_command(args: list[str], more: typing.Iterable[str] = ()) -> RecloomError:
    """The error for words that no command has."""
    commands = collect("register_commands")
    group = [name for name in commands if name.startswith(args[0] + " ")]
    return RecloomError(
        unknown(" ".join(args[:2] if group else args[:1]), group or [*more, *commands], "commands")
    )


def commands_with(option: str, kind: type) -> list[str]:
    """Names of the commands that take an option of this type."""
    every = collect("register_commands").items()
    return sorted(name for name, function in every if options(typed(function)).get(option) is kind)


def invoke(name: str, function: Callable[..., Any], args: list[str]) -> None:
    """Call a command with the words after its name; RecloomError for a wrong or a missing option."""
    from jsonargparse import ArgumentError, auto_cli

    from .help import CommandHelp

    if getattr(function, "options_of", None):
        from .added_options import with_options

        function = with_options(function, args)
    called = typed(function)
    kinds = options(called)
    chosen = {name: kind for name, kind in kinds.items() if any(part in str(kind) for part in COMPONENTS)}
    if chosen:
        collect("register_language_models")
    try:
        auto_cli(
            called,
            args=plain_words(function, args),
            prog=f"recloom {name}",
            as_positional=True,
            exit_on_error=False,
            allow_abbrev=False,
            description=description(function),
            usage=_usage(name, function),
            formatter_class=CommandHelp,
        )
    except ArgumentError as error:
        line = CommandLine(
            options=kinds,
            help=f"`recloom {name} --help` lists the options.",
            components={option: _component(kind) for option, kind in chosen.items()},
            places={
                p.name for p in inspect.signature(called).parameters.values() if p.kind is not p.KEYWORD_ONLY
            },
        )
        raise RecloomError(explain(str(error), line)) from error


def _component(kind: Any) -> ComponentOption:
    """What an option takes whose type is a language model or an encoder, or one of these or nothing."""
    classes = tuple(part for part in typing.get_args(kind) or (kind,) if inspect.isclass(part))
    registered = collect("register_language_models").items()
    known = {name: one for name, one in registered if issubclass(one, classes)}
    return ComponentOption(known, "names to choose from", [one.__name__ for one in classes])


def description(function: Callable[..., Any]) -> str:
    """What a docstring says before its sections: the parser by itself would show the first line alone."""
    return SECTION.split(inspect.cleandoc(function.__doc__ or ""))[0].strip()


def _usage(name: str, function: Callable[..., Any]) -> str | None:
    """How a command that passes words on is written; None = as the parser would say it."""
    if not getattr(function, "passes_on", False):
        return None
    *before, last = inspect.signature(function).parameters
    return " ".join(
        ["recloom", name, *(word.upper() for word in before), last.upper(), "[--option VALUE ...]"]
    )


def typed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its types looked up, so that the parser does not run imports meant for type checkers.

    A function whose own signature needs such an import is left to the parser.
    """
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:
        return function

    def call(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    return call


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """Type of every option; those of a dataclass or a record are `llm.offline`, after the parameter's own."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = parameter.annotation
        found[name] = kind
        if inspect.isclass(kind) and (dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields")):
            found |= {
                f"{name}.{part}": each
                for part, each in typing.get_type_hints(kind).items()
                if part in _fields(kind)
            }
    return found


def _fields(kind: Any) -> set[str]:
    return (
        set(kind.model_fields)
        if hasattr(kind, "model_fields")
        else {f.name for f in dataclasses.fields(kind)}
    )


def plain_words(function: Callable[..., Any], args: list[str]) -> list[str]:
    """Let people type `--max-rejected`, a bare `--overwrite` or `--no-overwrite`, and `--history "Heat" "Alien"`."""
    if getattr(function, "passes_on", False):
        return _passed_on(function, args)
    parameters = inspect.signature(function).parameters.values()
    kinds = {
        name: kind if isinstance(kind, str) else _spelled(kind)
        for name, kind in options(typed(function)).items()
    }
    optional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty]
    words: list[str] = []
    rest = list(args)
    if optional and rest and not rest[0].startswith("-"):  # `recloom demo DATA`, where DATA may be left out
        words.append(f"--{optional[0]}={rest.pop(0)}")
    if next(iter(kinds.values()), "").startswith("list["):  # all the leading words are the first parameter
        many = list(itertools.takewhile(lambda word: not word.startswith("-"), rest))
        rest = rest[len(many) :]
        words += [json.dumps(many, ensure_ascii=False)] if many else []
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        name = flag[2:].replace("-", "_") if flag.startswith("--") else ""
        if name.removeprefix("no_") in kinds and name not in kinds:
            words.append(f"--{name.removeprefix('no_')}=false")
        elif name not in kinds:
            bare = "." in name and not equals and (not rest or rest[0].startswith("--"))
            words.append(f"--{name}=true" if bare and not name.endswith(".help") else word)
        elif equals:
            words.append(f"--{name}={value}")
        elif kinds[name] == "bool":
            given = rest.pop(0) if rest and rest[0] in ("true", "false") else "true"
            words.append(f"--{name}={given}")
        elif kinds[name].startswith("list["):
            many = []
            while rest and not rest[0].startswith("--"):
                many.append(rest.pop(0))
            words.append(f"--{name}={json.dumps(many, ensure_ascii=False)}")
        else:
            words.append(f"--{name}")
    return words


def _passed_on(function: Callable[..., Any], args: list[str]) -> list[str]:
    """The last parameter takes all the words that are left, options included."""
    before = len(inspect.signature(function).parameters) - 1
    if HELP & set(args[: before + 1]):
        return ["--help"]
    return [*args[:before], json.dumps(args[before:], ensure_ascii=False)] if args[before:] else args


def _spelled(kind: Any) -> str:
    return kind.__name__ if inspect.isclass(kind) and not typing.get_args(kind) else str(kind)
