"""`@command`: mark a function as a subcommand of `recloom`, for the hook `register_commands`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def command(
    name: str, *, passes_on: bool = False, options_of: Callable[[Sequence[str]], Sequence[type]] | None = None
) -> Callable[[Function], Function]:
    """Make a function `recloom <name>`; two words (`data prepare`) make it part of a group.

    The signature is the options (keyword-only ones are `--flags`), the docstring is the help: its first
    line stands in `recloom --help`, its `Args:` section describes the options. Import what is heavy
    inside the function, so that `--help` stays fast.

    Args:
        name: what is typed after `recloom`.
        passes_on: the last parameter, a list, takes all the words that are left, options included.
        options_of: from the words after the name, the classes whose constructors' arguments are options of the command
            too; those that were given are its last parameter, a dict.
    """

    def mark(function: Function) -> Function:
        function.name = name  # type: ignore[attr-defined]
        function.passes_on = passes_on  # type: ignore[attr-defined]
        function.options_of = options_of  # type: ignore[attr-defined]
        return function

    return mark
