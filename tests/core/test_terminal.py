"""Hostile ids and titles on the terminal: shown in full view, never as markup or as a command."""

from __future__ import annotations

from types import SimpleNamespace

import polars as pl
import pytest
from recloom.data.catalog import Catalog
from recloom.runs.recommend import _print
from recloom.schemas import Recommendation
from recloom.terminal import plain

RED = "\x1b[31m"
HOSTILE = ["[/nope] x", "[rec] (2007)", f"{RED}alarm\x07", "right\u202eleft", ":smile:", "x" * 10_000]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[/nope] [b]x[/b] :smile: \\", "[/nope] [b]x[/b] :smile: \\"),
        ("\x1b]0;title\x07 a\r\n\tb\x00\x7f", "␛]0;title␇ a␍␊␉b␀␡"),
        ("\x9b31m a\u202eb\u2066c\u2028d\ud800", "\ufffd31m a\ufffdb\ufffdc\ufffdd\ufffd"),
        ("café 東京 \N{FAMILY}\N{ZERO WIDTH JOINER}", "café 東京 \N{FAMILY}\N{ZERO WIDTH JOINER}"),
        ("", ""),
    ],
)
def test_nothing_is_obeyed_and_words_are_kept(text, shown):
    assert str(plain(text)) == shown
    assert not plain(text).spans


def test_a_long_text_is_cut_by_columns():
    assert str(plain("x" * 80)) == "x" * 80
    assert str(plain("x" * 10_000)) == "x" * 79 + "…"
    assert str(plain("東" * 100, 11)) == "東" * 5 + "…"
    stacked = str(plain("e" + "\u0301" * 10_000, 20))
    assert len(stacked) <= 81
    assert stacked.endswith("…")


def test_recommendations_are_printed_as_they_are_spelt(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    _print(
        ["[/red]"], [[Recommendation(item_id=f"[{n}]", title=t, score=1.0) for n, t in enumerate(HOSTILE)]]
    )
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0].rstrip() == "for [/red]"
    assert len(lines) == 2 + len(HOSTILE)
    for line, expected in zip(
        lines[2:],
        ["[/nope] x", "[rec] (2007)", "␛[31malarm␇", "right\ufffdleft", ":smile:", "x" * 79 + "…"],
        strict=True,
    ):
        assert f"  {expected} " in line
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_the_demo_shows_titles_as_they_are_spelt(monkeypatch, tmp_path, capsys):
    from recloom.demo import steps

    ids = [f"i{n}" for n in range(len(HOSTILE))]
    rows = {"user_id": "[/u]", "item_id": ids, "timestamp": range(len(ids))}
    pl.DataFrame(rows).write_parquet(tmp_path / "interactions.parquet")
    catalog = Catalog(pl.DataFrame({"item_id": ids, "title": HOSTILE}), pl.DataFrame({"user_id": ["[/u]"]}))
    run = SimpleNamespace(catalog=catalog, data=lambda: SimpleNamespace(path=tmp_path))
    exported = SimpleNamespace(answer=lambda *_, **__: ids[::-1])
    monkeypatch.setattr(steps, "artefacts_of", lambda *_: exported)
    steps.ask(run, tmp_path / "model.onnx", "[/u]")
    shown = capsys.readouterr().out
    for expected in ("[/u]", "[/nope] x", "[rec] (2007)", "␛[31malarm␇", "right\ufffdleft", ":smile:"):
        assert expected in shown
    assert "What the user met next: xxx" in " ".join(shown.split())
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
