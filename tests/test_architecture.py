"""The house keeps its shape: arrows of imports, sizes and names of files, and pages that say what is there."""

from __future__ import annotations

import ast
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from recloom import hookspecs

from .source_tree import CORE, EVERYTHING, PLUGINS, ROOT, SERVE, imports, in_core, module_name, nodes, sources

CEILING = 400
LAYERS = (
    "errors command terminal io progress next_steps",
    "hookspecs schemas plugins spec parse_errors",  # parse errors name what plugins registered
    "run_folder",
    "data data.card data.id_order data.readers data.readers.* data.prepare data.prepare.* data.columns data.split "
    "data.synth data.synth.*",
    "batch pretrained data.catalog data.vector_files data.interactions data.provenance nn nn.*",
    "llm llm.* metrics metrics.*",
    "data.batches data.batches.*",
    "recommender",
    "losses",
    "models models.*",
    "training training.*",
    "evaluation evaluation.*",
    "runs runs.*",
    "fitting fitting.*",
    "experiments experiments.*",
    "cli cli.* demo demo.* testing testing.* defaults __main__",
)
"""Modules of core, lowest first: a module imports from its own layer and those before it."""


def layer(name: str) -> int:
    """The place of a module of core in LAYERS; an exact name counts before a pattern."""
    short = name.removeprefix("recloom").removeprefix(".")
    places = [
        (pattern != short, place)
        for place, patterns in enumerate(LAYERS)
        for pattern in patterns.split()
        if fnmatchcase(short, pattern)
    ]
    assert places, f"{name} stands in no layer: place it in LAYERS and in docs/architecture.md"
    return min(places)[1]


def test_no_import_of_core_runs_against_the_arrows():
    wrong, seen = [], 0
    for name, path in CORE.items():
        if name == "recloom":
            continue
        for target in filter(None, map(in_core, imports(path))):
            seen += 1
            if layer(target) > layer(name):
                wrong.append(f"{name} imports {target}")
    assert seen > 100
    assert not wrong


def test_the_package_itself_imports_what_is_light_only():
    targets = {target for name in imports(CORE["recloom"]) if (target := in_core(name))}
    assert targets == {"recloom.command", "recloom.errors", "recloom.plugins"}


def test_every_layer_holds_a_module():
    short = {name.removeprefix("recloom.") for name in CORE}
    for patterns in LAYERS:
        for pattern in patterns.split():
            assert any(fnmatchcase(name, pattern) for name in short), f"{pattern} in LAYERS names nothing"


@pytest.mark.parametrize("room", ["core", "plugins", "serve"])
def test_packages_import_core_and_nothing_of_each_other(room):
    files = {"core": list(CORE.values()), "plugins": PLUGINS, "serve": SERVE}[room]
    wrong = []
    for path in files:
        own = module_name(path).partition(".")[0]
        roots = {name.partition(".")[0] for name in imports(path, typing_too=True)}
        wrong += [
            f"{path.relative_to(ROOT)} imports {r}" for r in roots if r.startswith("recloom_") and r != own
        ]
    assert not wrong


def test_core_imports_transformers_and_peft_among_local_models_only():
    heavy = {"transformers", "peft"}
    found = {name for name, path in CORE.items() if heavy & {n.partition(".")[0] for n in imports(path)}}
    files = ("adapter", "backbone", "masks", "transformers", "weights")
    assert found == {f"recloom.llm.local.{name}" for name in files}


@pytest.mark.parametrize(
    "name", ["recloom.schemas", "recloom.hookspecs", "recloom.plugins", "recloom.errors"]
)
def test_contracts_know_nothing_of_torch(name):
    assert not {n for n in imports(CORE[name], typing_too=True) if n.split(".")[0] in ("torch", "lightning")}


def test_a_plugin_begins_with_hook_implementations_and_nothing_else():
    packages = [path for path in (*PLUGINS, *SERVE) if path.name == "__init__.py"]
    assert len(packages) > 3
    for path in packages:
        tree = ast.parse(path.read_text("utf-8"))
        at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        heavy = {ast.unparse(node) for node in at_once if "recloom" not in ast.unparse(node)}
        assert all(
            line.startswith(("from __future__", "from collections", "from typing")) for line in heavy
        ), path
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                assert [ast.unparse(mark) for mark in node.decorator_list] == ["hookimpl"], path
                assert node.name in vars(hookspecs), path
            assert not isinstance(node, ast.ClassDef), path


def test_no_file_is_long_and_half_are_short():
    files = [*sources("packages/*/src/**/*.py"), *sources("tests/**/*.py"), *sources("benchmarks/*.py")]
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    assert not {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > CEILING}
    ours = sorted(lengths[path] for path in EVERYTHING)
    assert ours[len(ours) // 2] <= 150


def test_names_say_what_is_inside():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "base"}
    files = [*EVERYTHING, *sources("tests/**/*.py"), *sources("benchmarks/*.py")]
    assert not [str(path) for path in files if {path.stem, *path.relative_to(ROOT).parts} & vague]
    classes = [node.name for path in EVERYTHING for node in nodes(path) if isinstance(node, ast.ClassDef)]
    assert len(classes) > 40
    assert not [name for name in classes if re.match(r"Base[A-Z]|Abstract|.*(Manager|Handler)$", name)]


def test_options_are_spelled_out():
    functions = [
        (path, node)
        for path in EVERYTHING
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__")
    ]
    assert len(functions) > 200
    free = {
        "prompts.py: render",
        "nodes.py: op",
        "triton.py: op",
        "int8.py: op",
        "errors.py: at_least",
        "invoke.py: call",
        "added_options.py: call",
    }  # names are data there, not options
    assert {f"{path.name}: {node.name}" for path, node in functions if node.args.kwarg} <= free


def test_nothing_is_unpickled_or_evaluated():
    wrong, loads = [], 0
    for path in EVERYTHING:
        pickles = {"pickle", "dill", "joblib", "cloudpickle"} & {n.partition(".")[0] for n in imports(path)}
        if path.name == "planetoid_pickle.py":  # an Unpickler whose find_class has an allow-list of stand-ins
            assert "def find_class" in path.read_text("utf-8")
            continue
        assert not pickles, path
        for node in nodes(path):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec"):
                wrong.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                loads += 1
                if not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords):
                    wrong.append(f"{path}:{node.lineno}")
    assert loads > 0
    assert not wrong


def committed() -> list[Path]:
    """Text files of the project: those that git knows, or all where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True
        ).stdout
        paths = [ROOT / line for line in listed.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        paths = [
            path for part in ("packages", "tests", "docs", "configs") for path in (ROOT / part).rglob("*.*")
        ]
    kinds = {".py", ".md", ".toml", ".yaml", ".txt", ".json", ".in", "", ".cfg"}
    found = [path for path in paths if path.suffix in kinds and path.is_file()]
    assert len(found) > 100
    return found


def test_no_file_knows_a_machine_or_waits_to_be_finished():
    machine = re.compile(r"(?<![\w.>:\"'*~])/(?:work|home|root|farm|opt|mnt)/\w" + r"|/" + r"tmp/\w")
    unfinished = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    wrong = []
    for path in committed():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if machine.search(line) or unfinished.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not wrong


HOOKS = [name for name in vars(hookspecs) if name.startswith("register_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_and_tested(hook):
    pages = (ROOT / "docs" / "architecture.md", ROOT / "docs" / "write-a-plugin.md")
    assert all(f"`{hook}`" in page.read_text("utf-8") for page in pages)
    tests = [path for path in sources("tests/**/*.py") if path != Path(__file__)]
    assert [path for path in tests if hook in path.read_text("utf-8")], f"no test names {hook}"


def test_the_pages_name_no_hook_that_does_not_exist():
    named = {
        name
        for page in sources("docs/*.md")
        for name in re.findall(r"\bregister_\w+", page.read_text("utf-8"))
        if name != "register_buffer"  # torch's own
    }
    assert named == set(HOOKS)


def test_the_tree_of_the_page_is_the_tree_of_the_house():
    """Each line of the tree is a file or folder with its purpose; indentation is the path."""
    (tree,) = re.findall(
        r"^```tree\n(.*?)^```$", (ROOT / "docs" / "architecture.md").read_text("utf-8"), re.M | re.S
    )
    named: set[Path] = set()
    at: list[str] = []
    for line in tree.splitlines():
        indent, name, purpose = re.fullmatch(r"( *)(\S+) +(\S.*)", line).groups()
        at[len(indent) // 2 :] = [name.rstrip("/")]
        assert purpose
        named.add(ROOT.joinpath(*at))
    assert not [str(path) for path in named if not path.exists()]
    shown = [path for path in EVERYTHING if path.name != "__init__.py"]
    assert not [str(path.relative_to(ROOT)) for path in shown if path not in named]


def test_one_place_for_atomic_writes_locks_digests_and_versions():
    """No file but io.py gives temporary names, renames, syncs, locks, digests a file, or asks what is installed.

    Hashes of texts, ids and tensors in memory are another thing and stay where they are.
    """
    calls = {
        "os.replace", "os.rename", "os.renames", "os.fsync", "os.access", "os.open", "hashlib.file_digest",
        "file_digest", "metadata.version", "importlib.metadata.version",
    }  # fmt: skip
    modules = {"fcntl", "msvcrt", "filelock", "portalocker"}
    names = {
        *(f"tempfile.{name}" for name in ("NamedTemporaryFile", "TemporaryFile", "mkstemp", "mkdtemp")),
        *(f"importlib.metadata.{name}" for name in ("version", "metadata", "distribution", "PackageNotFoundError")),
        *(f"os.{name}" for name in ("replace", "rename", "fsync", "access")),
        "importlib.metadata", "hashlib.file_digest",
    }  # fmt: skip
    of_a_part = "hashlib.sha256(file.read())"  # the footer of a Parquet file, which batch/requests.py reads
    io, wrong, parts = CORE["recloom.io"], [], 0
    for path in EVERYTHING:
        if path == io:
            continue
        found = [name for name in imports(path) if name in names or name.partition(".")[0] in modules]
        for node in nodes(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [repr(node.value)] if node.value.endswith(".tmp") else []
            elif isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                one = (
                    len(node.args) == 1
                    and not node.keywords
                    and not isinstance(node.args[0], ast.Dict | ast.DictComp)
                )
                renames = (
                    isinstance(node.func, ast.Attribute) and node.func.attr in ("replace", "rename") and one
                )
                digests = name.removeprefix("hashlib.") in ("sha256", "md5", "blake2b") and {
                    "read",
                    "read_bytes",
                } & {
                    ast.unparse(n.func).rpartition(".")[2] for n in ast.walk(node) if isinstance(n, ast.Call)
                }
                if name in calls or renames:
                    found.append(ast.unparse(node))
                elif digests:
                    text = ast.unparse(node)
                    parts += text == of_a_part
                    found += [text] if text != of_a_part else []
        wrong += [f"{path.relative_to(ROOT)}: {text[:80]}" for text in found]
    assert parts == 1
    assert not wrong
