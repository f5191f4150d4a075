"""Finding plugins: duplicates, what cannot be imported, misspelt hooks, switching off."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from recloom import hookspecs, plugins
from recloom.errors import PluginError
from recloom.plugins import collect, collect_with_owner, installed, load_object, public_name

GOOD = """
from recloom.command import command
from recloom.plugins import hookimpl

@command("{name}")
def run() -> None:
    "Say {name}."
    print("{name} ran")

@hookimpl
def register_commands():
    return [run]
"""


class Site:
    """A folder of installed packages that a new process sees beside the real ones."""

    def __init__(self, folder: Path, python) -> None:
        self.folder, self.python = folder, python

    def install(self, name: str, code: str) -> None:
        """Install a plugin `name` whose module holds `code`."""
        info = self.folder / f"recloom_{name}-7.8.dist-info"
        info.mkdir()
        (self.folder / f"recloom_{name}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: recloom-{name}\nVersion: 7.8\n")
        (info / "entry_points.txt").write_text(f"[recloom]\n{name} = recloom_{name}\n")

    def recloom(self, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command line there."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RECLOOM_")}
        environment = inherited | {"PYTHONPATH": str(self.folder), "COLUMNS": "300"} | variables
        return self.python.run("-m", "recloom.cli.main", *args, env=environment)

    def listed(self, name: str, **variables: str) -> dict[str, object]:
        """What `recloom plugins --json` says of a plugin."""
        rows = json.loads(self.recloom("plugins", "--json", **variables).stdout)
        (row,) = (row for row in rows if row["plugin"] == name)
        return row


@pytest.fixture
def site(tmp_path, warm_python):
    return Site(tmp_path, warm_python)


def test_a_plugin_is_found_listed_and_run(site):
    site.install("echo", GOOD.format(name="echo"))
    assert site.recloom("echo").stdout == "echo ran\n"
    assert re.search(r"^  echo +Say echo\.$", site.recloom("--help").stdout, re.MULTILINE)
    assert site.listed("echo") == {"plugin": "echo", "version": "7.8", "state": "ok", "hooks": ["commands"]}


def test_a_plugin_that_cannot_be_imported_is_one_warning_that_names_it(site):
    site.install("broken", "import a_library_nobody_has")
    site.install("echo", GOOD.format(name="echo"))
    done = site.recloom("echo")
    assert (done.returncode, done.stdout) == (0, "echo ran\n")
    cause = "ModuleNotFoundError: No module named 'a_library_nobody_has'"
    assert done.stderr == f"warning: plugin 'broken' is installed but cannot be loaded ({cause})\n"
    row = site.listed("broken")
    assert (row["state"], row["hooks"]) == (f"cannot be loaded ({cause})", [])
    table = site.recloom("plugins")
    assert cause in table.stdout
    assert table.stderr.count("\n") == 1
    assert cause in site.recloom("doctor").stdout


def test_a_hook_that_fails_when_called_is_one_warning_too(site):
    code = "from recloom.plugins import hookimpl\n@hookimpl\ndef register_commands():\n    return 1 / 0\n"
    site.install("broken", code)
    done = site.recloom("data", "list")
    assert done.returncode == 0
    assert done.stderr.count("warning: plugin 'broken' is installed but cannot be loaded") == 1
    assert "ZeroDivisionError" in done.stderr
    assert "movielens" in done.stdout


def test_a_misspelt_hook_is_an_error_that_lists_the_hooks(site):
    site.install(
        "slip", "from recloom.plugins import hookimpl\n@hookimpl\ndef register_modles(): return []\n"
    )
    done = site.recloom("--help")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in ("register_modles", "slip", "The hooks of Recloom are: ", *hooks()):
        assert word in done.stderr


def test_a_name_that_two_plugins_claim_is_an_error_that_names_both(site):
    site.install("one", GOOD.format(name="greet"))
    site.install("two", GOOD.format(name="greet"))
    done = site.recloom("greet")
    assert done.returncode == 2
    assert done.stdout == ""
    expected = "register_commands: 'greet' is registered by plugin 'one' and again by 'two'."
    assert done.stderr == f"error: {expected} Rename one, or switch one off with RECLOOM_BLOCK=two.\n"
    assert site.recloom("greet", RECLOOM_BLOCK="two").stdout == "greet ran\n"


def test_a_name_of_core_cannot_be_taken(site):
    site.install("taker", GOOD.format(name="doctor"))
    message = site.recloom("--help").stderr
    assert "'doctor' is registered by plugin 'core' and again by 'taker'" in message


def test_a_blocked_plugin_is_not_even_imported(site):
    site.install("loud", "raise SystemExit('imported')")
    site.install("echo", GOOD.format(name="echo"))
    done = site.recloom("--help", RECLOOM_BLOCK=" loud , echo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Say echo" not in done.stdout
    row = site.listed("echo", RECLOOM_BLOCK="loud,echo")
    assert (row["state"], row["hooks"]) == ("switched off by RECLOOM_BLOCK", [])


def hooks() -> list[str]:
    found = [name for name in vars(hookspecs) if name.startswith("register_")]
    assert len(found) == 10
    return found


def test_every_hook_takes_nothing_and_every_answer_counts():
    manager = plugins.manager()
    for name in hooks():
        specification = getattr(manager.hook, name).spec
        assert specification.argnames == ()
        assert not {key for key, value in specification.opts.items() if value}


def test_what_is_collected_is_sorted_and_has_an_owner():
    for hook in ("register_losses", "register_metrics", "register_readers", "register_commands"):
        found = collect(hook)
        assert list(found) == sorted(found)
        assert len(found) > 2, hook
        assert {public_name(thing) for thing in found.values()} == set(found)
    owners = {owner for _, owner in collect_with_owner("register_models").values()}
    assert {"core", "feature", "graph", "pretrain"} <= owners


def test_core_comes_first_and_once():
    names = [entry.name for entry in installed()]
    assert names[0] == "core"
    assert len(names) == len(set(names))


def test_core_is_there_without_being_installed(monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    (entry,) = installed()
    assert (entry.name, entry.load().__name__) == ("core", "recloom.defaults")


def test_two_things_of_one_plugin_with_one_name(monkeypatch):
    class Twice:
        name = "same"

    class Hook:
        plugin_name = "mine"
        function = staticmethod(lambda: [Twice, Twice])

    class Caller:
        get_hookimpls = staticmethod(lambda: [Hook])

    monkeypatch.setattr(
        plugins, "manager", lambda: type("M", (), {"hook": type("H", (), {"register_x": Caller})})
    )
    with pytest.raises(PluginError, match=r"'same' is registered by plugin 'mine' and again by 'mine'"):
        collect("register_x")


def test_the_public_name_is_the_name_or_that_of_the_class():
    class Plain:
        pass

    class Named:
        name = "called"

    class Other:
        name = property(lambda self: "no string on the class")

    assert [public_name(kind) for kind in (Plain, Named, Other, Named())] == [
        "Plain",
        "called",
        "Other",
        "called",
    ]


def test_an_object_by_its_path():
    assert load_object("recloom.errors:PluginError") is PluginError


FULL = """
from recloom.plugins import hookimpl
from recloom.llm.prompts import load_prompts

@hookimpl
def register_prompts():
    return load_prompts(__package__)

@hookimpl
def register_models():
    from recloom.models.popularity import Popularity
    return [type("Trend", (Popularity,), {})]

@hookimpl
def register_modules():
    from recloom.training.task import TaskModule
    class Slope(TaskModule):
        "Learns a slope."
    return [Slope]

@hookimpl
def register_losses():
    from recloom.losses import Loss
    return [type("Hinge", (Loss,), {})]

@hookimpl
def register_metrics():
    from dataclasses import replace
    from recloom.metrics import core_metrics
    return [replace(core_metrics()[0], name="gain")]

@hookimpl
def register_readers():
    from recloom.data.readers.table import Table
    return [type("Diary", (Table,), {"name": "diary"})]

@hookimpl
def register_language_models():
    from recloom.llm.texts.hashing import HashingNgrams
    return [type("Bag", (HashingNgrams,), {})]

@hookimpl
def register_artefacts():
    from types import SimpleNamespace
    return [SimpleNamespace(name="tape")]

@hookimpl
def register_server_stages():
    return [type("Calm", (), {"name": "calm"})]

@hookimpl
def register_commands():
    from recloom.command import command

    @command("stroll")
    def stroll() -> None:
        "Walk."
    return [stroll]
"""


def test_one_plugin_may_answer_every_hook(site):
    site.install("full", "")
    (site.folder / "recloom_full.py").unlink()
    (site.folder / "recloom_full" / "prompts").mkdir(parents=True)
    (site.folder / "recloom_full" / "__init__.py").write_text(FULL)
    (site.folder / "recloom_full" / "prompts" / "hello.yaml").write_text("name: hello\nuser: Good day.\n")
    code = (
        "import json; from recloom.plugins import collect_with_owner as found\n"
        f"print(json.dumps({{hook: [n for n, (_, o) in found(hook).items() if o == 'full'] for hook in {hooks()}}}))"
    )
    environment = os.environ | {"PYTHONPATH": str(site.folder)}
    done = site.python.run("-c", code, env=environment)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "register_models": ["Trend"],
        "register_modules": ["Slope"],
        "register_losses": ["Hinge"],
        "register_prompts": ["hello"],
        "register_readers": ["diary"],
        "register_language_models": ["Bag"],
        "register_metrics": ["gain"],
        "register_artefacts": ["tape"],
        "register_server_stages": ["calm"],
        "register_commands": ["stroll"],
    }
