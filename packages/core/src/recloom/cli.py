"""The `recloom` command: find out what is asked for first, import what it needs then."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from . import __version__
from .errors import RecloomError
from .plugins import collect
from .terminal import visible
from .usage import ALL, HELP, usage

LIGHTNING = {
    "fit": "Train a recommender on a prepared dataset.",
    "validate": "Measure a run on the validation part.",
    "test": "Measure a run on the test part, with intervals.",
    "predict": "Rank for the requests of the test part and write the lists to Parquet.",
}
DEBUG = "RECLOOM_DEBUG"
START = """\
Start here:
  recloom data synth --like movies --out data/movies     a dataset with known structure
  recloom fit --model SASRec --data data/movies          train, validated after every epoch
  recloom test runs/movies/SASRec                        test it, with intervals
  recloom recommend runs/movies/SASRec --users u0001    see what it recommends
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command; a RecloomError becomes a message and exit status 2."""
    given = list(sys.argv[1:] if args is None else args)
    warnings.formatwarning = lambda message, *rest: f"warning: {visible(str(message))}\n"
    try:
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
    except KeyboardInterrupt as stop:
        print(visible(str(stop)), end="\n" if str(stop) else "", file=sys.stderr)
        sys.exit(130)


def _dispatch(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_overview())
    elif args[0] in ("-V", "--version"):
        print(f"recloom {__version__}")
    elif args[0] in LIGHTNING and HELP & set(args):
        print(usage(args[0]))
    elif args[0] in LIGHTNING:
        from .training import run_command

        run_command(["--help" if word == ALL else word for word in args])
    else:
        _run_function(args)


def _run_function(args: list[str]) -> None:
    commands = collect("register_commands")
    for words in (2, 1):
        name = " ".join(args[:words])
        if len(args) >= words and name in commands:
            _call(name, commands[name], args[words:])
            return
    group = {name: fn for name, fn in commands.items() if name.startswith(args[0] + " ")}
    if not group:
        from .spec import unknown

        raise RecloomError(unknown(args[0], [*LIGHTNING, *commands], "commands"))
    if len(args) > 1 and args[1] not in ("-h", "--help"):
        from .spec import unknown

        raise RecloomError(unknown(" ".join(args[:2]), group, "commands"))
    print(
        f"usage: recloom {args[0]} COMMAND ...\n\n{_table(group)}\n\nrecloom {args[0]} COMMAND --help tells more."
    )


def _call(name: str, function: Callable[..., Any], args: list[str]) -> None:
    from jsonargparse import ArgumentError, auto_cli

    words = plain_words(function, args)
    try:
        auto_cli(typed(function), args=words, prog=f"recloom {name}", as_positional=True, exit_on_error=False)
    except ArgumentError as error:
        missing = re.search(r"following arguments are required: ([\w, ]+)", str(error))
        flags = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
        names = [name.strip() for name in missing[1].split(",")] if missing else []
        wanted = ", ".join(f"--{one}" if one in flags else one.upper() for one in names)
        told = f"say {wanted}" if missing else str(error)
        raise RecloomError(f"{told}. `recloom {name} --help` lists the options.") from error


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


def plain_words(function: Callable[..., Any], args: list[str]) -> list[str]:
    """Let people type `--max-rejected`, a bare `--overwrite` or `--no-overwrite`, and `--history "Heat" "Alien"`."""
    parameters = inspect.signature(function).parameters.values()
    kinds = {p.name: str(p.annotation) for p in parameters}
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
            words.append(word)
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


def _overview() -> str:
    commands = dict(LIGHTNING)
    commands |= {name: _first_line(function) for name, function in collect("register_commands").items()}
    width = max(map(len, commands)) + 2
    lines = [f"  {name:{width}}{text}" for name, text in commands.items()]
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
    return "\n".join(f"  {name:{width}}{_first_line(function)}" for name, function in functions.items())


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _short(error: ValueError) -> str:
    """What pydantic and others say of a wrong value, without addresses and class paths."""
    if hasattr(error, "errors"):
        faults = (f"{'.'.join(map(str, f['loc']))}: {f['msg']}, found {f['input']!r}" for f in error.errors())
        return "; ".join(faults) + "."
    return f"{error}."


def _fail(message: str) -> int:
    print(f"error: {visible(message)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
