"""README says what is there: the output of the demo, but for figures, times and titles, and every command in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from recloom.cli.help import LIGHTNING
from recloom.cli.main import main
from recloom.data.synth.generator import World
from recloom.demo import steps
from recloom.demo.steps import entrants
from recloom.plugins import collect

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
ANSWER, AFTER = "met last", "What the user met next:"


def block() -> list[str]:
    """The lines of the demo's output as README shows them."""
    (found,) = re.findall(r"This is what it prints.*?```\n(.*?)```", README, re.S)
    return [line for line in found.splitlines() if line.strip()]


def shape(line: str) -> str:
    """A line without its figures and the widths of its columns; which model is the best is a figure, too."""
    line = re.sub(r"(?<=beside it: )\w+", "BEST", " ".join(line.split()))
    line = re.sub(rf"(?<={re.escape(AFTER)}).*", "", line)
    return re.sub(r"\d[\d.,–]*\d|\d", "0", line)


def test_the_demo_prints_what_readme_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(steps, "World", lambda like: World(like=like, users=60, items=50, seed=3))
    few = [replace(one, training={**one.training, "max_epochs": 1}) for one in entrants()]
    monkeypatch.setattr(steps, "entrants", lambda: few)
    main(["demo"])
    shown = shape(
        " ".join(re.sub(f"{AFTER}.*", AFTER, capsys.readouterr().out).split())
    )  # long lines are folded
    lines = block()
    first, last = (next(n for n, line in enumerate(lines) if line.startswith(s)) for s in (ANSWER, AFTER))
    titles = lines[first + 1 : last]
    kept = [line for line in (*lines[: first + 1], lines[last]) if line != "..."]
    assert len(kept) > 20
    assert not [line for line in kept if shape(line) not in shown]
    row = re.compile(r".+ \(\d{4}\) +(\d+)  .+ \(\d{4}\)")
    numbers = [int(row.fullmatch(line)[1]) for line in titles if line != "..."]
    assert numbers[:3] == [1, 2, 3]
    assert numbers[-1] == steps.SHOWN


def test_readme_shows_every_model_of_the_demo_once_in_each_part():
    models = {entrant.model for entrant in entrants()}
    lines = block()
    steps = [
        line.split()[0] for line in lines if re.search(r"(fitted|trained for \d+ epochs) and tested in", line)
    ]
    rows = [line.split()[0] for line in lines if re.search(r"^\w+ +\d\.\d{4}  ", line)]
    assert len(models) > 5
    assert sorted(steps) == sorted(rows) == sorted(models)
    trained = {
        line.split()[0]: int(n) for line in lines for n in re.findall(r"trained for (\d+) epochs", line)
    }
    assert trained == {one.model: one.max_epochs for one in entrants() if one.max_epochs > 1}
    values = [float(line.split()[1]) for line in lines if re.search(r"^\w+ +\d\.\d{4}  ", line)]
    assert values == sorted(values, reverse=True)


PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("packages/*/README.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_target_that_a_page_names_exists(page):
    text = page.read_text("utf-8")
    code = "\n".join(parts(text))
    commands = {*collect("register_commands"), *LIGHTNING}
    groups = {name.partition(" ")[0] for name in commands if " " in name}
    named = re.findall(r"(?:^|[\s(])recloom ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", code, re.M)
    unknown = [
        f"{first} {second}".strip()
        for first, second in named
        if first not in commands and not (first in groups and (not second or f"{first} {second}" in commands))
    ]
    assert not unknown
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"^make ([a-z]+)", code, re.M)) <= targets


def parts(text: str) -> list[str]:
    """What stands in blocks of code and between backticks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    return [*blocks, *inline]


def test_the_pages_name_commands():
    assert len(PAGES) > 8
    named = [
        page for page in PAGES if re.search(r"\brecloom [a-z]", "\n".join(parts(page.read_text("utf-8"))))
    ]
    assert len(named) > 6
