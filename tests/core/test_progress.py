"""One progress bar: on stderr while that is a terminal, and nothing otherwise."""

from __future__ import annotations

import io
import sys

import pytest
from recloom.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch, stderr, *args, **options) -> str:
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("COLUMNS", "100")
    with Progress(*args, **options) as bar:
        bar.advance(2_000_000)
        bar.advance(1_000_000, 7)
    return stderr.getvalue()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"total": 4_000_000, "done": 10}, ["encoding [x]", "3000010/4000000", "7 failed"]),
        ({"total": None}, ["encoding [x]", "3000000/?"]),
        ({"total": 4_000_000, "of_bytes": True}, ["3.0/4.0 MB"]),
    ],
)
def test_a_terminal_sees_how_far_the_work_is(monkeypatch, options, parts):
    text = shown(monkeypatch, Terminal(), "encoding [x]", **options)
    assert all(part in text for part in parts), text


def test_no_terminal_and_no_name_see_nothing(monkeypatch, capsys):
    assert shown(monkeypatch, io.StringIO(), "encoding", 4) == ""
    assert shown(monkeypatch, Terminal(), "", 4) == ""
    assert capsys.readouterr().out == ""
