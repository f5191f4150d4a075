"""Rooms: what they list, who may open which door, and what stays light."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from recloom.plugins import collect_with_owner

from .source_tree import (
    CORE,
    EVERYTHING,
    PACKAGES,
    PLUGINS,
    ROOT,
    SERVE,
    for_typing,
    imports,
    in_core,
    module_name,
    nodes,
    sources,
)

ROOMS = {name: path for name, path in CORE.items() if path.name == "__init__.py" and name != "recloom"}
TOP_FILES = {name for name, path in CORE.items() if name.count(".") == 1 and path.name != "__init__.py"}
NO_TORCH = (
    "errors", "command", "terminal", "io", "progress", "next_steps", "hookspecs", "schemas", "plugins", "spec",
    "parse_errors", "run_folder", "data.card", "data.readers", "data.prepare", "data.columns", "data.split",
    "data.synth", "llm.client", "llm.ledger", "cli", "evaluation",
)  # fmt: skip
"""Files and rooms that load neither torch nor Lightning, with everything in them."""
OLD_NAMES = (
    "Asking", "Errand", "Later", "Bill", "Question", "Reply", "Asked", "Met", "Meter", "Told", "Known",
    "Windows", "Pairs", "RatedRows", "RatedRequests", "Tally", "Shelf", "Refused", "StandaloneModule",
    "StandaloneData", "calm", "resampled", "errand", "asking", "lanes", "secrecy", "masking",
    "reply_lines", "records", "item_lines", "contest", "newcomer_scores", "out_of_reach", "tally",
    "draft", "shelf", "people", "bodies", "refused", "wire", "standalone", "quiet",
)  # fmt: skip
"""Names of the first edition that had no meaning outside it."""


@cache
def lazy_table(path: Path) -> dict[str, str]:
    """Public name to module (relative to the room), as `lazy_names` gets it; empty where it is not called."""
    for node in nodes(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_names":
            modules = ast.literal_eval(node.args[1])
            return {name: module for module, names in modules.items() for name in names.split()}
    return {}


def typed_table(path: Path) -> dict[str, str]:
    """The same as the room's imports for type checkers say it."""
    skipped = for_typing(path)
    return {
        alias.name: str(node.module)
        for node in nodes(path)
        if node in skipped and isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
        if alias.asname == alias.name
    }


LISTING = [path for path in EVERYTHING if path.name == "__init__.py" and lazy_table(path)]


@pytest.mark.parametrize("path", LISTING, ids=module_name)
def test_a_room_lists_names_that_are_there_the_same_way_for_python_and_for_type_checkers(path):
    room, table = module_name(path), lazy_table(path)
    if room != "recloom":  # whose names for type checkers are in __all__
        assert typed_table(path) == table
    there = importlib.import_module(room)
    assert not {name for name in table if getattr(there, name, None) is None}
    modules = {file.stem for file in path.parent.glob("*.py")} | {
        folder.name for folder in path.parent.iterdir() if (folder / "__init__.py").is_file()
    }
    assert not modules & set(table), "a name that a module of the room has too"


def test_most_rooms_list_names():
    assert len(LISTING) > 10


def public(name: str) -> bool:
    """Whether a name imported from core is public: of a top-level file, or of a room; of llm only `recloom.llm`."""
    owner = in_core(name)
    if owner is None:
        return name.startswith("recloom.")
    return owner in TOP_FILES or (owner in ROOMS and not owner.startswith("recloom.llm."))


def test_packages_import_public_names_and_no_file_inside_a_room():
    wrong, seen = [], 0
    for path in [*PLUGINS, *SERVE]:
        for name in imports(path, typing_too=True):
            if name.partition(".")[0] == "recloom":
                seen += 1
                if not public(name):
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert seen > 300
    assert not wrong


def test_serving_knows_no_language_model():
    assert not [
        path for path in SERVE for name in imports(path, typing_too=True) if name.startswith("recloom.llm")
    ]


def test_core_outside_llm_imports_llm_and_no_file_below_it():
    wrong = [
        f"{name} imports {target}"
        for name, path in CORE.items()
        if not name.startswith("recloom.llm")
        for target in filter(None, map(in_core, imports(path)))
        if target.startswith("recloom.llm.")
    ]
    assert not wrong


def test_the_light_rooms_load_neither_torch_nor_lightning():
    light = [
        name
        for name in CORE
        if any(name == f"recloom.{part}" or name.startswith(f"recloom.{part}.") for part in NO_TORCH)
    ]
    assert len(light) > 50
    code = (
        "import importlib, json, sys\n"
        f"for name in {light!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({'torch', 'lightning', 'transformers', 'onnxruntime'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@cache
def strings(path: Path) -> list[str]:
    """The string constants of a file, docstrings left out."""
    docs = {
        id(node.value)
        for owner in nodes(path)
        if isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef)
        for node in owner.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def test_core_depends_on_no_package_by_a_name_in_a_string():
    wrong, seen = [], 0
    for name, path in CORE.items():
        for text in strings(path):
            seen += 1
            if any(
                f"recloom_{part}" in text for part in ("feature", "graph", "pretrain", "onnx", "finetune")
            ):
                wrong.append(f"{name}: {text[:60]!r}")
    assert seen > 2000
    assert not wrong


EXAMPLES = {"recloom.cli.help", "recloom.cli.main", "recloom.parse_errors"}
"""Help and messages may name an installed model as an example."""


def test_core_names_no_model_of_a_plugin():
    found = collect_with_owner("register_models") | collect_with_owner("register_losses")
    foreign = {name for name, (_, owner) in found.items() if owner != "core"}
    assert len(foreign) > 5
    wrong = [
        f"{name}: {text!r}"
        for name, path in CORE.items()
        if name not in EXAMPLES
        for text in strings(path)
        if text in foreign
    ]
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: folder.name)
def test_no_class_name_stands_twice_in_a_package(package):
    names = Counter(
        node.name for path in PACKAGES[package] for node in nodes(path) if isinstance(node, ast.ClassDef)
    )
    assert names
    assert not [name for name, count in names.items() if count > 1]


def test_the_old_names_are_gone():
    """As classes, functions and modules: as words they may mean just what they say."""
    wrong = []
    for path in EVERYTHING:
        names = {path.stem} | {
            node.name for node in nodes(path) if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in names & set(OLD_NAMES)]
    assert not wrong


def test_the_training_module_is_short():
    assert len(CORE["recloom.training.module"].read_text("utf-8").splitlines()) <= 250


def test_every_package_was_looked_at():
    assert len(PACKAGES) == len(sources("packages/*/src/*/__init__.py")) >= 5
