"""The `recloom` command: what it finds, and what it says where it finds nothing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Literal

import pytest
from recloom import __version__
from recloom.cli import invoke
from recloom.cli import main as cli
from recloom.command import command
from recloom.errors import RecloomError
from recloom.plugins import collect


@command("paint")
def paint(what: str, *, colours: list[str] | None = None, coats: int = 1, dry: bool = False) -> None:
    """Paint a thing.

    Args:
        what: the thing.
        colours: in which colours.
        coats: how often.
        dry: wait until it is dry.
    """
    print((what, colours, coats, dry))


@command("visit")
def visit(where: str = "home", *, by: Literal["bus", "foot"] = "bus") -> None:
    """Go somewhere."""
    print((where, by))


@command("mend all")
def mend(things: list[str], *, out_dir: Path = Path("shed")) -> None:
    """Mend things."""
    print((things, str(out_dir)))


@command("break")
def break_down() -> None:
    """Break down."""
    raise RecloomError("the [bold] thing broke; buy another")


@pytest.fixture
def commands(monkeypatch):
    known = {function.name: function for function in (paint, visit, mend, break_down)}
    for module in (cli, invoke):
        monkeypatch.setattr(module, "collect", lambda hook: known)


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "recloom.cli.main", *args], text=True, capture_output=True)


@pytest.mark.parametrize("args", [[], ["-h"], ["--help"], ["help"]])
def test_the_overview_names_every_command_with_its_first_line(args, capsys):
    cli.main(args)
    shown = capsys.readouterr().out
    functions = collect("register_commands")
    assert {"demo", "data prepare", "plugins", "doctor", "compare", "recommend", "export"} <= set(functions)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    for name, function in functions.items():
        first = function.__doc__.strip().splitlines()[0]
        assert f"{name} {first}" in lines
    for name, text in cli.LIGHTNING.items():
        assert f"{name} {text}" in lines


def test_every_command_says_what_it_does_in_one_line_and_describes_its_options():
    functions = collect("register_commands")
    assert len(functions) > 8
    for name, function in functions.items():
        assert function.__doc__.strip().splitlines()[0].endswith("."), name
        for option in (option for option in function.__annotations__ if option != "return"):
            assert f"\n    {option}: " in inspect.cleandoc(function.__doc__), (name, option)


def test_the_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"recloom {__version__}\n"


def test_a_group_lists_its_commands(capsys):
    cli.main(["data"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: recloom data COMMAND ...\n")
    for name in ("data prepare", "data split", "data synth", "data check", "data list"):
        assert f"  {name} " in shown
    assert "  plugins" not in shown
    cli.main(["data", "--help"])
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["recomend"], "'recomend' is not among the commands. Did you mean recommend? Installed: "),
        (["tset"], "'tset' is not among the commands. Did you mean test? Installed: "),
        (["qqqqqq"], "'qqqqqq' is not among the commands. Installed: "),
        (
            ["data", "chekc"],
            "'data chekc' is not among the commands. Did you mean data check? Installed: data",
        ),
        (["--recloom"], "'--recloom' is not among the commands."),
    ],
)
def test_an_unknown_command_is_answered_with_the_nearest(args, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(args)
    shown = capsys.readouterr()
    assert stop.value.code == 2
    assert shown.err.startswith(f"error: {message}")
    assert shown.out == ""


def test_an_error_of_the_user_has_status_2_and_no_traceback():
    done = run("data", "check", "no-such-file.csv")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no-such-file.csv does not exist.")
    assert "Traceback" not in done.stderr


def test_a_message_is_printed_as_it_is(commands, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["break"])
    assert (stop.value.code, capsys.readouterr().err) == (2, "error: the [bold] thing broke; buy another\n")


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        (["paint", "door"], "('door', None, 1, False)"),
        (["paint", "door", "--coats", "2", "--dry"], "('door', None, 2, True)"),
        (["paint", "door", "--dry", "false"], "('door', None, 1, False)"),
        (["paint", "door", "--no-dry"], "('door', None, 1, False)"),
        (["paint", "door", "--colours", "light blue", "red", "--coats=3"], "('door', ['light blue', 'red'], 3, False)"),
        (["visit"], "('home', 'bus')"),
        (["visit", "the sea"], "('the sea', 'bus')"),
        (["visit", "--by", "foot"], "('home', 'foot')"),
        (["visit", "the sea", "--by", "foot"], "('the sea', 'foot')"),
        (["visit", "--where", "the sea"], "('the sea', 'bus')"),
        (["mend", "all", "cup", "old chair"], "(['cup', 'old chair'], 'shed')"),
        (["mend", "all", "cup", "--out-dir", "attic"], "(['cup'], 'attic')"),
        (["mend", "all", "cup", "--out_dir=attic"], "(['cup'], 'attic')"),
    ],
)  # fmt: skip
def test_words_become_arguments(commands, args, seen, capsys):
    cli.main(args)
    assert capsys.readouterr().out.strip() == seen


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["paint", "door", "--coats", "many"], "coats"),
        (["paint", "door", "--colour", "red"], "--colour"),
        (["paint"], "say WHAT."),
        (["visit", "--by", "train"], "by"),
    ],
)
def test_a_wrong_option_is_named_and_the_help_pointed_to(commands, args, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(args)
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.startswith("error: ")
    assert message in shown
    assert f"`recloom {args[0]} --help`" in shown


def test_the_help_of_a_command_describes_its_options(commands, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["paint", "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code in (0, None)
    for words in ("recloom paint", "Paint a thing.", "the thing.", "--coats", "how often."):
        assert words in shown


def test_an_interrupt_ends_quietly(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    with pytest.raises(SystemExit) as stop:
        cli.main(["fit"])
    assert (stop.value.code, capsys.readouterr().err) == (130, "")


def test_a_reader_that_stops_reading_is_no_error():
    shell = f"set -o pipefail; {sys.executable} -m recloom.cli.main --help | head -n 1"
    done = subprocess.run(["bash", "-c", shell], text=True, capture_output=True)
    assert done.stdout.startswith("usage: recloom")
    assert "Traceback" not in done.stderr


def test_the_page_shows_every_command_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    cells = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `recloom "))
    shown = re.findall(r"`recloom ((?:data |llm |encoder |items |seralm |graph )?[a-z-]+)", cells)
    assert sorted(shown) == sorted([*cli.LIGHTNING, *collect("register_commands")])


def test_a_command_may_name_a_type_that_only_type_checkers_see(tmp_path, monkeypatch, capsys):
    lines = [
        "from __future__ import annotations",
        "from typing import TYPE_CHECKING",
        "if TYPE_CHECKING:",
        "    from pathlib import Path",
        "def walk(where: Path) -> None:",
        '    """Walk."""',
        "    print(type(where).__name__, where)",
        "walk.name = 'walk'",
    ]
    (tmp_path / "walking.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    import walking

    monkeypatch.setattr(invoke, "collect", lambda hook: {"walk": walking.walk})
    cli.main(["walk", "home"])
    assert capsys.readouterr().out == "PosixPath home\n"


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_the_short_help_fits_a_terminal(verb, capsys):
    cli.main([verb, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: recloom {verb} ")
    assert len(lines) > 15
    assert max(map(len, lines)) <= 80


def test_the_help_of_fit_shows_the_options_of_data(capsys):
    from inspect import signature

    from recloom.data.batches.module import GIVEN, RecDataModule

    cli.main(["fit", "--help"])
    shown = capsys.readouterr().out
    named = set(re.findall(r"^  --data\.(\w+)", shown, re.M))
    rare = {"path", "split_path", "eval_rows", "pairs", "num_workers", "seed"}  # --data is the path
    assert named == set(signature(RecDataModule).parameters) - rare
    assert len(named) > 8
    candidates = " ".join(re.search(r"--data\.candidates(.*?)\n  --", shown, re.S)[1].split())
    assert all(kind in candidates for kind in (*GIVEN, "uniform-N", "popular-N"))


def test_warnings_are_one_line_however_a_library_calls_the_format(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    cli.main(["--version"])
    assert (
        warnings.formatwarning(UserWarning("a\x1bb"), UserWarning, "file.py", 3, line=None)
        == "warning: a␛b\n"
    )
