"""`recloom new-plugin`: a package with a working recommender and its tests, ready to be changed."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from .. import __version__
from ..command import command
from ..errors import RecloomError
from ..plugins import installed

FILES = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "plugin.py.in": "src/recloom_$module/__init__.py",
    "model.py.in": "src/recloom_$module/$module.py",
    "test.py.in": "tests/test_$module.py",
}
"""File of the template to file of the new package."""


@command("new-plugin")
def new_plugin(name: str, *, out: Path = Path(".")) -> None:
    """Write a new plugin: a package with a working recommender and its tests.

    Args:
        name: lower-case letters, digits and hyphens, such as `nearest-taste`; gives the package
            `recloom-nearest-taste` with the recommender `NearestTaste`.
        out: folder in which the package's folder is made.
    """
    check_name(name)
    folder = out / f"recloom-{name}"
    if folder.exists():
        raise RecloomError(f"{folder} exists already and is left as it is. Choose another name or --out.")
    words = words_of(name)
    for source, target in FILES.items():
        path = folder / Template(target).substitute(words)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (files("recloom.cli") / "template" / source).read_text("utf-8")
        path.write_text(Template(text).substitute(words), encoding="utf-8")
    print(f"wrote {folder} (next: pip install -e '{folder}[testing]' && python -m pytest {folder})")


def words_of(name: str) -> dict[str, str]:
    """What stands for the places of the template."""
    major, minor, *_ = (int(part) for part in re.findall(r"\d+", __version__))
    above = f"{major}.{minor + 1}" if major == 0 else f"{major + 1}"
    return {
        "name": name,
        "module": name.replace("-", "_"),
        "model": "".join(part.capitalize() for part in name.split("-")),
        "versions": f">={major}.{minor},<{above}",
    }


def check_name(name: str) -> None:
    """Raise RecloomError where a plugin cannot have this name, saying which name it could have."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
        near = "-".join(words).lstrip("0123456789-") or "my-plugin"
        raise RecloomError(
            f"a plugin's name begins with a letter and holds lower-case letters, digits and single hyphens; "
            f"found {name!r}. Try {near!r}."
        )
    if name.startswith("recloom"):
        rest = name.removeprefix("recloom").lstrip("-") or "my-plugin"
        raise RecloomError(f"the package is called recloom-NAME already; found {name!r}. Try {rest!r}.")
    if keyword.iskeyword(name):
        raise RecloomError(f"{name!r} is a word of Python, which no module can be called. Try 'my-{name}'.")
    if name in {entry.name for entry in installed()}:
        raise RecloomError(f"a plugin {name!r} is installed already (`recloom plugins`). Try 'my-{name}'.")
