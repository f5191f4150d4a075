"""The tests of one file run on its mutants: collected once, then in a forked process for each, with its code in place.

A mutant whose code does not fit into the functions that were imported is given to a new process by an import hook; so
are all of a file whose tests start threads while they are collected, as Polars does: a fork would wait for them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from mutants import Mutant, Source

ROOT = Path(__file__).resolve().parents[1]
SPARE_SECONDS = 60
UNFIT = 77
"""Status of a mutant whose code cannot take the place of what was imported."""


class Changed(SourceFileLoader):
    """Loads a module from a given text instead of its file."""

    text = b""

    def get_code(self, fullname: str) -> Any:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds one module in a given text."""

    def __init__(self, path: Path, text: bytes) -> None:
        self.path, self.text = path, text
        self.name = ".".join(
            path.relative_to(next(p for p in path.parents if p.name == "src")).with_suffix("").parts
        )

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        loader = Changed(fullname, str(self.path))
        loader.text = self.text
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def outcome_of(child: int, seconds: float) -> str:
    """`survived`, `killed` or `timeout` of a forked process that ends with the status of its tests."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "unfit" if code == UNFIT else "killed" if code else "survived"
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def forked(work: Callable[[], int]) -> int:
    """Start a process of its own group for some work; it is silent, and ends with the status of it."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nothing, stream)
        os.chdir(ROOT)
        code = work()
    finally:
        os._exit(code)


def imported(path: str, text: bytes, tests: Sequence[str], plugins: Sequence[object] = ()) -> int:
    """Run tests with a text in place of a file that was not imported yet; the status of pytest."""
    import pytest

    sys.meta_path.insert(0, Finder(ROOT / path, text))
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        words = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore", f"--basetemp={folder}/tmp", "--tb=no"]
        return int(pytest.main([*words, *tests], plugins=list(plugins)))


class Collected:
    """Plugin of pytest that runs the collected tests once for each mutant, in a forked process with its code.

    Args:
        source: whose tests they are.
        text: of its file, as it is.
        mutants: of it.
        tell: takes each mutant, its outcome and the seconds.
    """

    def __init__(self, source: Source, text: bytes, mutants: list[Mutant], tell: Callable[..., None]) -> None:
        self.source, self.text, self.mutants, self.tell = source, text, mutants, tell

    def pytest_runtestloop(self, session: Any) -> bool:
        began = time.monotonic()
        if outcome_of(forked(lambda: self.run(session)), 150) != "survived":
            session.shouldfail = "the tests do not pass on the file as it is, after a fork"
            raise session.Failed(session.shouldfail)
        took = time.monotonic() - began
        for mutant in self.mutants:
            began = time.monotonic()
            found = outcome_of(forked(lambda one=mutant: self.run(session, one)), 10 * took + SPARE_SECONDS)
            if found != "unfit":
                self.tell(mutant, found, time.monotonic() - began)
        return True

    def run(self, session: Any, mutant: Mutant | None = None) -> int:
        if mutant is not None:
            try:
                put_in_place(self.source.path, mutant.of(self.text))
            except ValueError:  # it has other cells, such as that of super(): only an import can make it
                return UNFIT
        items = session.items
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.testsfailed:
                return 1
        return 0


def put_in_place(path: str, text: bytes) -> None:
    """Give the functions of an imported module the code that they have in another text of it.

    Whoever imported a function holds the same object, so that all see the other code.
    """
    name = Finder(ROOT / path, text).name
    old, new = sys.modules[name], types.ModuleType(name)
    new.__package__, new.__file__ = old.__package__, old.__file__
    exec(compile(text, str(ROOT / path), "exec", dont_inherit=True), new.__dict__)
    for mine, theirs in code_of(old, new):
        mine.__code__, mine.__defaults__, mine.__kwdefaults__ = (
            theirs.__code__,
            theirs.__defaults__,
            theirs.__kwdefaults__,
        )


def code_of(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of functions of two modules or classes by their names."""
    for name, mine in vars(old).items():
        theirs = vars(new).get(name)
        for inner in ("fget", "func", "__func__", "__wrapped__"):
            mine, theirs = getattr(mine, inner, mine), getattr(theirs, inner, theirs)
        if type(mine) is not type(theirs) or getattr(mine, "__module__", None) != old_name(old):
            continue
        if isinstance(mine, types.FunctionType):
            yield mine, theirs
        elif isinstance(mine, type):
            yield from code_of(mine, theirs)


def old_name(where: Any) -> str:
    return str(where.__name__ if isinstance(where, types.ModuleType) else where.__module__)
