"""The project's sources as the architecture tests read them: files, module names, imports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def sources(pattern: str) -> list[Path]:
    """The Python files that match, never none."""
    found = sorted(path for path in ROOT.glob(pattern) if ".venv" not in path.parts)
    assert found, f"no file matches {pattern}"
    return found


def module_name(path: Path) -> str:
    inside = path.with_suffix("").parts
    return ".".join(inside[inside.index("src") + 1 :]).removesuffix(".__init__")


CORE = {module_name(path): path for path in sources("packages/core/src/recloom/**/*.py")}
PLUGINS = sources("packages/plugins-*/src/**/*.py")
SERVE = sources("packages/serve-onnx/src/**/*.py")
EVERYTHING = [*CORE.values(), *PLUGINS, *SERVE]
PACKAGES = {
    path.parent: sorted(path.parent.rglob("*.py")) for path in sources("packages/*/src/*/__init__.py")
}
"""Source folder of a package to its files."""


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file, the module first; each file is parsed once for all tests of a process."""
    return tuple(ast.walk(ast.parse(path.read_text("utf-8"))))


@cache
def for_typing(path: Path) -> frozenset[ast.AST]:
    """The nodes of a file below `if TYPE_CHECKING:`."""
    branches = (node for node in nodes(path) if isinstance(node, ast.If))
    return frozenset(
        node
        for branch in branches
        if ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    )


@cache
def imports(path: Path, typing_too: bool = False) -> tuple[str, ...]:
    """Full names of what a file imports, inside functions too; `package.name` for `from package import name`."""
    skipped = frozenset() if typing_too else for_typing(path)
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    found: list[str] = []
    for node in nodes(path):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parts, *([node.module] if node.module else [])])
            found += [f"{origin}.{alias.name}" for alias in node.names]
    return tuple(found)


@cache
def in_core(name: str) -> str | None:
    """The module of core that an imported name lies in; the package itself is free for all."""
    while name not in CORE and name:
        name = name.rpartition(".")[0]
    return name if name not in ("", "recloom") else None
