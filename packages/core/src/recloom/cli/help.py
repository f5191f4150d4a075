"""What `recloom COMMAND --help` prints: what to type, what it does, and the default; types are not spelled out."""

from __future__ import annotations

import inspect
import textwrap
import typing
from argparse import SUPPRESS, Action
from collections.abc import Iterable
from typing import Any

from jsonargparse import DefaultHelpFormatter

SAID = {
    "--config": "YAML file with any of these options; later words win.",
    "--print_config": "print the options as such a file, and exit.",
    "--help": "show this, and exit.",
}
"""Options that every command has."""
PART_OF_A_FILE = "Path to a configuration file."
"""What the parser says of a group of options, such as `--llm`: the whole goes into `--config` as well."""


class CommandHelp(DefaultHelpFormatter):
    """The options of a command as people type them, those that every command has at the end."""

    def start_section(self, heading: str | None) -> None:
        shown = "arguments" if heading == "positional arguments" else heading
        super().start_section(shown and textwrap.fill(shown, self._width, break_on_hyphens=False))

    def add_arguments(self, actions: Iterable[Action]) -> None:
        kept = [action for action in actions if action.help != PART_OF_A_FILE or action.dest == "config"]
        super().add_arguments(sorted(kept, key=lambda action: _flag(action) in SAID))

    def _format_usage(self, usage: Any, actions: Iterable[Action], *rest: Any) -> str:
        """`usage: recloom items add RUN FILE --out OUT [options]`: what must be given, in the order of typing."""
        if usage:
            return textwrap.fill(f"usage: {usage}", self._width, subsequent_indent=" " * 7) + "\n\n"
        needed = [action for action in actions if action.required and action.help != SUPPRESS]
        words = [f"{_flag(action)} {_value(action)}".strip() for action in needed if action.option_strings]
        places = [_value(action) for action in needed if not action.option_strings]
        line = " ".join(["usage:", self._prog, *places, *words, "[options]"])
        return textwrap.fill(line, self._width, subsequent_indent=" " * 7) + "\n\n"

    def _format_action_invocation(self, action: Action) -> str:
        return _typed(action)

    def _get_help_string(self, action: Action) -> str:
        if getattr(action, "_jsonargparse_preexpanded_help", False):  # this very function has made it
            return action.help or ""
        text = _said(action) or (action.help or "").strip()
        told = [*_names(action), *_default(action)]
        return " ".join([text, f"({'; '.join(told)})"] if told else [text]).strip()


def _typed(action: Action) -> str:
    """An argument or an option with its value, as it is typed."""
    if not action.option_strings:
        return _value(action)
    flag, kind = _flag(action), _kind(action)
    if kind is bool:
        return flag if not action.default else f"{flag}, --no-{flag[2:]}"
    if typing.get_origin(kind) is typing.Literal:
        return f"{flag} {{{','.join(map(str, typing.get_args(kind)))}}}"
    if flag in SAID:
        return f"{flag} FILE" if flag == "--config" else flag
    return f"{flag} NAME" if flag.endswith(".help") else f"{flag} {_value(action)}"


def _value(action: Action) -> str:
    """What stands for a value: the name of the parameter, and dots where there may be several."""
    several = " ..." if typing.get_origin(_kind(action)) is list else ""
    return action.dest.rpartition(".")[2].upper() + several


def _flag(action: Action) -> str:
    """The long form; `--columns+`, which the parser adds to a list, is not shown."""
    return max(action.option_strings, key=lambda option: (not option.endswith("+"), len(option)), default="")


def _kind(action: Action) -> Any:
    """The type, None left out of it; None where the parser knows of none."""
    kind = getattr(action, "_typehint", None)
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    return parts[0] if len(parts) == 1 and type(None) in typing.get_args(kind) else kind


def _said(action: Action) -> str | None:
    """What is said of options that every command has, or every component."""
    flag = _flag(action)
    return "show the options of NAME, and exit." if flag.endswith(".help") else SAID.get(flag)


def _names(action: Action) -> list[str]:
    """The names of the components to choose from."""
    further = getattr(action, "extra_help", str)().partition("known subclasses: ")[2].split(", ")
    own = _kind(action).__name__ if inspect.isclass(_kind(action)) else ""
    names = [path.rpartition(".")[2] for path in further]
    return [", ".join(name for name in names if name != own)] if names[1:] else []


def _default(action: Action) -> list[str]:
    """The default where there is one to speak of."""
    if not action.option_strings or action.default in (None, False, SUPPRESS):
        return []
    if action.default is True:
        return [f"default {_flag(action)}"]
    return ["default %(default)s"] if isinstance(action.default, int | float | str) else []
