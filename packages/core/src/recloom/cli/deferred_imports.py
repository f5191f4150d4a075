"""Deferred imports: what Lightning's metrics load on the side, loaded when it is used.

`import lightning` imports torchmetrics, whose first file imports `scipy.signal` and, where it is installed,
`transformers`: one CPU second, or six, at every start, for metrics that nobody asked for. While that file runs, names
that stand for both are in their places; each imports what it stands for when it is first used. Only the `recloom`
command does so: a program that imports recloom keeps its imports as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

USER = "torchmetrics"
HEAVY = ("scipy.signal", "transformers")


class DeferredName:
    """A name of a module that is imported when the name is called or asked for an attribute."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _found(self) -> Any:
        return getattr(import_module(self._module), self._name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._found(), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)


class DeferredModule(ModuleType):
    """Stands for a module: any public name of it is a `DeferredName`."""

    def __getattr__(self, name: str) -> DeferredName:
        if name.startswith("__"):
            raise AttributeError(name)
        return DeferredName(self.__name__, name)


@contextmanager
def stand_ins() -> Iterator[None]:
    """Modules of `HEAVY` that are installed and not yet loaded are deferred within the block."""
    placed = []
    for name in HEAVY:
        if name not in sys.modules and (spec := find_spec(name)) is not None:
            placed.append(module := DeferredModule(name))
            module.__spec__ = spec
    sys.modules.update({module.__name__: module for module in placed})
    try:
        yield
    finally:
        for module in placed:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


class DeferringLoader(Loader):
    """Loads a package with stand-ins in place, and as Python would where a stand-in does not do."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        try:
            with stand_ins():
                self.loader.exec_module(module)
        except ImportError:
            for name in [one for one in sys.modules if one.startswith(f"{module.__name__}.")]:
                del sys.modules[name]
            self.loader.exec_module(module)


class Finder:
    """Finds torchmetrics for `DeferringLoader`; other modules are found as always."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == USER else None
        if spec is not None and spec.loader is not None:
            spec.loader = DeferringLoader(spec.loader)
        return spec


def defer_heavy_imports() -> None:
    """From now on torchmetrics is imported without what it loads on the side. A second call changes nothing."""
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
