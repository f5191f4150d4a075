"""The `recloom` command: dispatch on the first words, then import what that command needs."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from .. import __version__
from ..errors import Finished, RecloomError, Terminated
from ..plugins import collect
from ..terminal import listed, visible
from .deferred_imports import defer_heavy_imports
from .help import ALL, HELP, LIGHTNING, usage
from .invoke import find_command, invoke, no_command

DEBUG = "RECLOOM_DEBUG"
START = """\
Start here:
  recloom data synth --like movies --out data/movies     a dataset with known structure
  recloom fit --model SASRec --data data/movies          train, validated after every epoch
  recloom test runs/movies/SASRec                        test it, with intervals
  recloom recommend runs/movies/SASRec --users u0001    see what it recommends
"""


def warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning in one line, without the place in the code; called as the library's `formatwarning` is."""
    return f"warning: {visible(str(message))}\n"


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; a RecloomError becomes a message and exit status 2."""
    given = list(sys.argv[1:] if args is None else args)
    warnings.formatwarning = warning_line
    defer_heavy_imports()
    try:
        with suppress(Finished):
            _dispatch(given)
    except RecloomError as error:
        sys.exit(_fail(str(error)))
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        if os.environ.get(DEBUG):
            raise
        sys.exit(_fail(f"{error}. (Set {DEBUG}=1 for the traceback.)"))
    except ValueError as error:
        if os.environ.get(DEBUG):
            raise
        sys.exit(_fail(f"{_short(error)} (Set {DEBUG}=1 for the traceback.)"))
    except Exception as error:
        reason = _system_error(error)
        if reason is None or os.environ.get(DEBUG):
            raise
        sys.exit(_fail(f"{reason}, where a table was read or written. (Set {DEBUG}=1 for the traceback.)"))
    except KeyboardInterrupt as stop:
        print(visible(str(stop)), end="\n" if str(stop) else "", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)


def _dispatch(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_overview())
    elif args[0] in ("-V", "--version"):
        print(f"recloom {__version__}")
    elif args[0] in LIGHTNING and HELP & set(args):
        print(usage(args[0]))
        _tell_training(args)
    elif args[0] in LIGHTNING:
        from ..fitting.fit import run_command

        warnings.formatwarning = warning_line  # Lightning has set its own, with a place in its code
        run_command(["--help" if word == ALL else word for word in args])
    else:
        _run_function(args)


def _tell_training(args: list[str]) -> None:
    """After the help of `fit --model NAME`: how this model is trained where nothing else is said."""
    if args[0] != "fit":
        return
    from ..fitting.training_defaults import chosen_name, training_help
    from ..fitting.words import expand

    name = chosen_name(expand(args))
    if name is not None:
        print(f"\n{training_help(name)}")


def _run_function(args: list[str]) -> None:
    found = find_command(args)
    if found:
        invoke(*found)
        return
    group = {name: fn for name, fn in collect("register_commands").items() if name.startswith(args[0] + " ")}
    if not group or (len(args) > 1 and args[1] not in HELP):
        raise no_command(args, LIGHTNING)
    print(
        f"usage: recloom {args[0]} COMMAND ...\n\n{_table(group)}\n\nrecloom {args[0]} COMMAND --help tells more."
    )


def _overview() -> str:
    commands = dict(LIGHTNING)
    commands |= {name: _first_line(function) for name, function in collect("register_commands").items()}
    width = max(map(len, commands)) + 2
    lines = [listed(name, text, width + 2) for name, text in commands.items()]
    return "\n".join(
        [
            "usage: recloom COMMAND [options]",
            "",
            START,
            "Commands:",
            *lines,
            "",
            "recloom COMMAND --help tells more.",
        ]
    )


def _table(functions: dict[str, Callable[..., Any]]) -> str:
    width = max(map(len, functions)) + 2
    return "\n".join(listed(name, _first_line(function), width + 2) for name, function in functions.items())


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _short(error: ValueError) -> str:
    """What pydantic and others say of a wrong value, without addresses and class paths."""
    if hasattr(error, "errors"):
        faults = (f"{'.'.join(map(str, f['loc']))}: {f['msg']}, found {f['input']!r}" for f in error.errors())
        return "; ".join(faults) + "."
    return f"{error}."


def _system_error(error: Exception) -> str | None:
    """What the system said where Polars could not read or write, such as that a disk is full; None of other errors."""
    found = (
        re.search(r"\(os error (\d+)\)", str(error))
        if type(error).__module__ == "polars.exceptions"
        else None
    )
    return found and os.strerror(int(found[1]))


def _fail(message: str) -> int:
    print(f"error: {visible(message)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
