"""What `recloom COMMAND --help` prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from recloom.cli import invoke
from recloom.cli import main as cli
from recloom.command import command
from recloom.llm import TextEncoder
from recloom.plugins import collect


@command("paint")
def paint(
    what: str,
    rooms: list[str],
    *,
    out: Path,
    colours: list[str] | None = None,
    brush: Literal["wide", "fine"] | None = None,
    coats: int = 1,
    dry: bool = False,
    open_windows: bool = True,
    encoder: TextEncoder | None = None,
) -> None:
    """Paint a thing.

    Args:
        what: the thing.
        rooms: where it stands.
        out: where to put it afterwards, such as the shed, if that is dry and somebody has the key of it.
        colours: in which colours.
        brush: which brush.
        coats: how often.
        dry: wait until it is dry.
        open_windows: air comes in.
        encoder: what reads the label.
    """


@pytest.fixture
def shown(monkeypatch, capsys):
    """The help of `paint` in 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    models = collect("register_language_models")
    known = {"register_commands": {"paint": paint}, "register_language_models": models}
    for module in (cli, invoke):
        monkeypatch.setattr(module, "collect", lambda hook: known[hook])
    with pytest.raises(SystemExit) as stop:
        cli.main(["paint", "--help"])
    assert stop.value.code in (0, None)
    return capsys.readouterr().out


def test_the_first_line_says_what_must_be_given(shown):
    assert shown.splitlines()[0] == "usage: recloom paint WHAT ROOMS ... --out OUT [options]"
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("WHAT", "the thing."),
        ("ROOMS ...", "where it stands."),
        ("--colours COLOURS ...", "in which colours."),
        ("--brush {wide,fine}", "which brush."),
        ("--coats COATS", "how often. (default 1)"),
        ("--dry", "wait until it is dry."),
        ("--open_windows, --no-open_windows", "air comes in. (default --open_windows)"),
        ("--encoder.help NAME", "show the options of NAME, and exit."),
        ("--config FILE", "YAML file with any of these options; later words win."),
    ],
)
def test_an_option_stands_as_it_is_typed(typed, said, shown):
    assert re.search(rf"^  {re.escape(typed)}\s+{re.escape(said)}$", shown, re.M)


def test_types_and_paths_of_classes_are_not_shown(shown):
    assert not re.search(r"<class|type:|null|recloom\.|Literal|\bTextEncoder", shown)
    names = [
        name for name, kind in collect("register_language_models").items() if issubclass(kind, TextEncoder)
    ]
    assert len(names) > 1
    listed = re.search(r"what reads the label\. \((.*?)\)", " ".join(shown.split()))[1]
    assert set(names) <= set(listed.split(", "))  # encoders of other tests may stand there too


def test_what_every_command_has_stands_last(shown):
    flags = re.findall(r"^  (--[\w.]+)", shown, re.M)
    assert flags[-3:] == ["--help", "--config", "--print_config"]


@pytest.mark.parametrize("name", sorted(collect("register_commands")))
def test_the_help_of_every_command_fits_a_terminal(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code in (0, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: recloom {name}")
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "<class" in line]
