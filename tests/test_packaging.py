"""Each package is built as a wheel and works alone with core, in an environment that holds what it asks for only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email import message_from_string
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from recloom.cli.main import main
from warm_python import WarmPython

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
PROJECTS = {folder.name: tomllib.loads((folder / "pyproject.toml").read_text("utf-8")) for folder in FOLDERS}
NAMES = {folder: project["project"]["name"] for folder, project in PROJECTS.items()}

CPU_BUILD = 'pip install "torch>=2.9,<3" --index-url https://download.pytorch.org/whl/cpu'
SYNTH = ["data", "synth", "--users", "40", "--items", "50", "--out"]
USE = """
import importlib.util, sys
from pathlib import Path
import recloom
from recloom.models.ctr.click_model import ClickModel
from recloom.plugins import collect_with_owner, installed, load_errors

assert {libraries!r} in sys.path
assert importlib.util.find_spec("hypothesis") is None, "more is seen than was asked for"
assert Path(recloom.__file__).is_relative_to(sys.prefix), recloom.__file__
assert [entry.name for entry in installed()] == {plugins!r}, installed()
kinds = {{
    name: kind for name, (kind, owner) in collect_with_owner("register_models").items() if owner == {plugins!r}[-1]
}}
models = list(kinds)
one_step = {{"enable_progress_bar": False, "max_steps": 1, "limit_val_batches": 1}}
vectors = {{"vectors": "items.parquet", "user_vectors": "users.parquet"}}
for of, key in (("items", "item_id"), ("users", "user_id")):
    import polars as pl
    ids = pl.read_parquet(f"data/{{of}}.parquet", columns=[key])
    ids.with_columns(vector=pl.lit([0.5, 1.0])).write_parquet(f"{{of}}.parquet")
for name in models:
    clicks = issubclass(kinds[name], ClickModel) or name in ("KAR", "LikeShare", "TitleRate")
    data = {{"positive": 1, **vectors}} if clicks else vectors if name == "GaCLLM" else {{}}
    run = recloom.fit("data", name, run=f"runs/{{name}}", config={{"trainer": one_step, "data": data}})
    assert 0 <= run.test().metrics["ndcg@10"].mean <= 1
    assert len(recloom.load(run.folder).recommend(user="u01", k=3)) == 3
assert not load_errors, load_errors
print("used", *models)
"""
SEE = """
import importlib, sys
sys.path[:] = [{now!r} if one == {before!r} else one for one in sys.path]
importlib.invalidate_caches()
"""
EXPORT = """
from recloom.cli.main import main

recloom.fit("data", "ItemKNN", run="runs/ItemKNN")
main(["export", "runs/ItemKNN", "--out", "model.onnx"])
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """A wheel of each package, by folder."""
    assert len(FOLDERS) >= 5
    out = tmp_path_factory.mktemp("wheels")
    pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(out), *map(str, FOLDERS))
    built = {folder: [*out.glob(f"{name.replace('-', '_')}-[0-9]*.whl")] for folder, name in NAMES.items()}
    assert all(len(found) == 1 for found in built.values()), sorted(out.iterdir())
    return {folder: found[0] for folder, found in built.items()}


def pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", *words]
    done = subprocess.run(command, text=True, capture_output=True, env=os.environ | {"PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stdout + done.stderr


def metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


@pytest.mark.slow
@pytest.mark.parametrize("folder", PROJECTS)
def test_a_wheel_holds_every_file_of_the_source_and_no_other(folder, wheels):
    source = ROOT / "packages" / folder / "src"
    expected = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheels[folder]) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert f"{NAMES[folder].replace('-', '_')}/py.typed" in found
    kinds = {".py", ".typed", ".yaml", ".in", ".html", ".css", ".js", ".svg"}
    assert not [name for name in found if Path(name).suffix not in kinds]
    assert not [name for name in found if Path(name).name.startswith("test_")]


@pytest.mark.slow
def test_the_wheel_of_core_holds_its_data_files(wheels):
    names = zipfile.ZipFile(wheels["core"]).namelist()
    assert {"recloom/data/synth/words.yaml", "recloom/cli/template/pyproject.toml.in"} <= set(names)


@pytest.mark.slow
@pytest.mark.parametrize("folder", PROJECTS)
def test_the_metadata_say_what_they_should(folder, wheels):
    found = metadata(wheels[folder])
    assert (found["Name"], found["License-Expression"]) == (NAMES[folder], "Apache-2.0")
    assert found["Requires-Python"] == ">=3.11"
    assert found["Summary"].endswith(".")
    assert len(found.get_payload()) > 80, "the README is the page of the package"
    assert re.search(rf"^{re.escape(CPU_BUILD)}.*\npip install '?{NAMES[folder]}", found.get_payload(), re.M)
    wanted = [Requirement(text) for text in found.get_all("Requires-Dist")]
    ours = {str(one) for one in wanted if one.name.startswith("recloom")}
    assert {text.replace(" ", "") for text in ours} == (set() if folder == "core" else {"recloom<0.2,>=0.1"})
    assert all(one.specifier for one in wanted), "a dependency without a range"
    entries = PROJECTS[folder]["project"]["entry-points"]["recloom"]
    name = "core" if folder == "core" else folder.partition("-")[2]
    assert set(entries) == {name}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A small dataset."""
    out = tmp_path_factory.mktemp("synth") / "data"
    main([*SYNTH, str(out)])
    return out


@pytest.fixture(scope="module")
def core(wheels, tmp_path_factory):
    """A warm Python of an environment that holds core alone, installed by pip, and the folder of its libraries."""
    place = tmp_path_factory.mktemp("core") / "venv"
    libraries = environment(place, [wheels["core"]])
    python = Path(sysconfig.get_path("scripts", "venv", {"base": str(place)})) / "python"
    pip("--python", str(python), "install", str(wheels["core"]))  # fails where a range is not met
    found = WarmPython(str(python))
    yield found, libraries
    found.close()


@pytest.mark.slow
@pytest.mark.parametrize("folder", PROJECTS)
def test_a_package_works_alone_with_core(folder, wheels, core, data, tmp_path):
    """The process comes from the environment of core alone; what it sees is changed before it imports a plugin."""
    python, of_core = core
    chosen = list(dict.fromkeys(["core", folder]))
    if folder == "core":
        libraries = of_core
        run([str(Path(python.python).with_name("recloom")), *SYNTH, "data"], tmp_path)
    else:
        libraries = environment(tmp_path / "venv", [wheels[one] for one in chosen])
        zipfile.ZipFile(wheels[folder]).extractall(libraries)
        for core_file in of_core.glob("recloom*"):  # as pip has installed and compiled it
            (libraries / core_file.name).symlink_to(core_file)
        shutil.copytree(data, tmp_path / "data")
    plugins = ["core" if one == "core" else one.partition("-")[2] for one in chosen]
    script = SEE.format(before=str(of_core), now=str(libraries)) + USE.format(
        plugins=plugins, libraries=str(libraries)
    )
    done = python.run(
        "-c", script + (EXPORT if folder == "serve-onnx" else ""), cwd=tmp_path, env=variables()
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (used,) = re.findall(r"^used(.*)$", done.stdout, re.M)
    if folder == "serve-onnx":
        assert re.search(r"^verified\b", done.stdout, re.M)
        assert (tmp_path / "model.onnx").is_file()
    else:
        assert used.split(), "no model was used"


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RECLOOM"))}


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, env=variables(), text=True, capture_output=True, timeout=200)
    assert done.returncode == 0, f"{' '.join(words)[:100]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(place: Path, wheels: list[Path]) -> Path:
    """Make a new environment with links to what the wheels ask for; returns the folder of its libraries.

    Nothing else is seen there, so a library that is used but not asked for is missed.
    """
    venv.create(place, with_pip=False, symlinks=True)
    libraries = Path(sysconfig.get_path("purelib", "venv", {"base": str(place)}))
    wanted: dict[str, Distribution] = {}
    for wheel in wheels:
        extras = ("cpu", "") if "onnx" in wheel.name else ("",)
        for text in metadata(wheel).get_all("Requires-Dist"):
            follow(Requirement(text), extras, wanted)
    for found in wanted.values():
        link(found, libraries)
    return libraries


def follow(wanted: Requirement, extras: tuple[str, ...], seen: dict[str, Distribution]) -> None:
    """Add the installed distribution that is asked for, and what it asks for itself."""
    if wanted.name.startswith("recloom"):
        return
    if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
        return
    key = f"{wanted.name.lower()}[{','.join(sorted(wanted.extras))}]"
    if key in seen:
        return
    try:
        seen[key] = distribution(wanted.name)
    except PackageNotFoundError:
        return  # an import says so, if it matters
    assert wanted.specifier.contains(seen[key].version, prereleases=True), (
        f"{wanted} is not met by {seen[key].version}"
    )
    for text in seen[key].requires or []:
        follow(Requirement(text), (*wanted.extras, ""), seen)


def link(found: Distribution, site: Path) -> None:
    """Link the folders and files that a distribution put into site-packages."""
    for top in {Path(file).parts[0] for file in found.files or []} - {"..", "__pycache__"}:
        source = Path(str(found.locate_file(top)))
        if source.suffix != ".pth" and not (site / top).exists():
            (site / top).symlink_to(source)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {one.name.lower(): str(one.specifier).removeprefix("==") for one in wanted}


def test_the_advice_on_torch_is_its_range_and_in_the_page_and_in_new_plugins():
    (torch,) = (one for one in PROJECTS["core"]["project"]["dependencies"] if one.startswith("torch"))
    assert f'"{torch}"' in CPU_BUILD
    assert f"{CPU_BUILD}\npip install -e packages/core\n" in (ROOT / "README.md").read_text("utf-8")
    template = ROOT / "packages" / "core" / "src" / "recloom" / "cli" / "template" / "README.md.in"
    assert re.search(rf"^{re.escape(CPU_BUILD)}.*\npip install -e", template.read_text("utf-8"), re.M)


def test_every_requirement_is_pinned_within_its_range():
    pinned, checked = pins(), 0
    for project in PROJECTS.values():
        extras = project["project"].get("optional-dependencies", {}).values()
        for text in [*project["project"]["dependencies"], *(one for extra in extras for one in extra)]:
            wanted = Requirement(text)
            if not wanted.name.startswith("recloom"):
                checked += 1
                assert wanted.specifier.contains(pinned[wanted.name.lower()]), text
    assert checked > 15


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_makefile_says_what_this_python_cannot_have(tmp_path):
    """Of the extras that are installed, and of those alone."""
    info = tmp_path / "recloom_old-1.dist-info"
    info.mkdir()
    wanted = [
        'abacus>1; python_version < "3" and extra == "stone"',
        'papyrus; python_version < "3" and extra == "reed"',
        'clay; python_version >= "3" and extra == "stone"',
    ]
    lines = [
        "Metadata-Version: 2.1",
        "Name: recloom-old",
        "Version: 1",
        *(f"Requires-Dist: {one}" for one in wanted),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    variables = [f"BIN={Path(sys.executable).parent}", "PACKAGES=packages/old[stone,new]"]
    done = subprocess.run(
        ["make", "--silent", "--directory", str(ROOT), *variables, "left-out"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True, capture_output=True,
    )  # fmt: skip
    version = sys.version.split()[0]
    expected = f'left out, since this is Python {version}: abacus (python_version < "3")\n'
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_the_makefile_installs_every_package_and_pins_every_tool():
    text = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    lists = {
        line.split(" := ")[0]: line.split(" := ")[1].split() for line in text.splitlines() if " := " in line
    }
    assert sorted(one.partition("[")[0] for one in lists["PACKAGES"]) == [
        f"packages/{name}" for name in PROJECTS
    ]
    assert len(lists["TOOLS"]) > 5
    assert not [tool for tool in lists["TOOLS"] if tool.partition("[")[0].lower() not in pins()]
