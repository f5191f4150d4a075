"""`recloom new-plugin`: what it writes, and what it refuses."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.resources import files

import pytest
from recloom import __version__
from recloom.cli.new_plugin import FILES, new_plugin, words_of
from recloom.errors import RecloomError


@pytest.fixture
def package(tmp_path, capsys):
    new_plugin("nearest-taste", out=tmp_path / "new")
    return tmp_path / "new" / "recloom-nearest-taste"


def test_it_writes_a_package_with_the_name_in_every_place(package, capsys):
    written = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert written == {
        "README.md",
        "pyproject.toml",
        "src/recloom_nearest_taste/__init__.py",
        "src/recloom_nearest_taste/nearest_taste.py",
        "tests/test_nearest_taste.py",
    }
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["name"] == "recloom-nearest-taste"
    assert project["entry-points"]["recloom"] == {"nearest-taste": "recloom_nearest_taste"}
    assert f"wrote {package} (next: pip install -e" in capsys.readouterr().out


def test_nothing_is_left_to_fill_in_and_the_python_is_short(package):
    lines = 0
    for path in package.rglob("*"):
        text = path.read_text() if path.is_file() else ""
        assert "$" not in text, path
        if path.suffix == ".py":
            tree = ast.parse(text)
            code = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.stmt) and not _docstring(n)]
            lines += len(set(code))
    assert 20 < lines <= 40


def _docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_the_package_asks_for_the_core_that_wrote_it(package):
    from packaging.requirements import Requirement

    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    (wanted,) = map(Requirement, project["dependencies"])
    assert wanted.name == "recloom"
    assert wanted.specifier.contains(__version__)
    assert not wanted.specifier.contains("99.0")


@pytest.mark.parametrize(
    ("version", "expected"), [("0.1.0", ">=0.1,<0.2"), ("1.4.2", ">=1.4,<2"), ("0.12.0rc1", ">=0.12,<0.13")]
)
def test_the_range_of_core_follows_its_version(monkeypatch, version, expected):
    monkeypatch.setattr("recloom.cli.new_plugin.__version__", version)
    assert words_of("x")["versions"] == expected


def test_every_file_of_the_template_is_used():
    shipped = {path.name for path in (files("recloom.cli") / "template").iterdir()}
    assert shipped == set(FILES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NearestTaste", "found 'NearestTaste'. Try 'nearest-taste'"),
        ("nearest_taste", "Try 'nearest-taste'"),
        ("1st", "begins with a letter.*Try 'st'"),
        ("../evil", "Try 'evil'"),
        ("a--b", "Try 'a-b'"),
        ("", "found ''. Try 'my-plugin'"),
        ("recloom-taste", "called recloom-NAME already; found 'recloom-taste'. Try 'taste'"),
        ("import", "a word of Python.*Try 'my-import'"),
        ("core", "'core' is installed already.*Try 'my-core'"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_one_that_can(tmp_path, name, message):
    with pytest.raises(RecloomError, match=message):
        new_plugin(name, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_as_it_is(tmp_path):
    (tmp_path / "recloom-taste").mkdir()
    (tmp_path / "recloom-taste" / "mine.txt").write_text("mine")
    with pytest.raises(RecloomError, match=r"recloom-taste exists already and is left as it is.*--out"):
        new_plugin("taste", out=tmp_path)
    assert [path.name for path in (tmp_path / "recloom-taste").iterdir()] == ["mine.txt"]


def test_writing_a_plugin_does_not_load_torch(tmp_path):
    code = "import sys, recloom.cli.new_plugin as n; n.new_plugin('taste'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0
    assert (tmp_path / "recloom-taste" / "pyproject.toml").is_file()
