"""Texts of one user are drawn together where intervals are made."""

from __future__ import annotations

import json

import numpy as np
import pytest
from recloom.cli.main import main
from recloom.metrics import Measured, TextMetric, Texts
from recloom_feature.text_metrics.measure import clusters, measure
from recloom_feature.text_metrics.tables import Columns, read_texts

LENGTH = TextMetric(
    name="length",
    about="characters",
    share=False,
    function=lambda texts, n: Measured(values=np.array([len(t) for t in texts.text], np.float64)),
)
TEXTS = ["a"] * 10 + ["a" * 9] * 10
USERS = ["u"] * 10 + ["v"] * 10


def test_an_interval_over_two_users_spans_both():
    by_user = measure(["length"], {"length": LENGTH}, Texts(text=TEXTS, user=USERS))["length"]
    by_text = measure(["length"], {"length": LENGTH}, Texts(text=TEXTS))["length"]
    assert (by_user.value, by_user.low, by_user.high) == pytest.approx((5, 1, 9))  # one of two users twice
    assert by_text.value == pytest.approx(5)
    assert by_text.low > 3
    assert by_text.high < 7
    assert by_user.n == by_text.n == 20


def test_a_text_of_no_user_is_one_of_its_own():
    found = clusters(Texts(text=["x"] * 5, user=["u", "", "v", "u", ""])).tolist()
    assert found[0] == found[3]
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("column", "options", "users"),
    [("user_id", [], 2), ("reader", ["--users", "reader"], 2), ("reader", [], None)],
)
def test_the_command_says_what_intervals_are_over(column, options, users, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("recloom.plugins.collect", lambda hook: {"length": LENGTH})
    file = tmp_path / "texts.jsonl"
    file.write_text(
        "".join(json.dumps({"text": t, column: u}) + "\n" for t, u in zip(TEXTS, USERS, strict=True))
    )
    out = tmp_path / "out.json"
    main(["text-metrics", str(file), "--metrics", "length", "--out", str(out), *options])
    said = capsys.readouterr().out
    assert (
        "95 % intervals by bootstrap over 2 users" if users else "by bootstrap over texts; --users COLUMN"
    ) in said
    written = json.loads(out.read_text())
    assert written["users"] == users
    assert (
        written["metrics"]["length"]["low"] == pytest.approx(1)
        if users
        else written["metrics"]["length"]["low"] > 3
    )


def test_a_file_without_users_has_none(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "one"}\n')
    assert read_texts(file, Columns("text")).user is None
