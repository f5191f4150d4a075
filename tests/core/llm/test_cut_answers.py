"""Answers that ended at max_tokens are known as such, also when they come from the ledger."""

from __future__ import annotations

import pytest
from recloom.language.ledger import Ledger
from recloom.language.question import Question, Reply
from recloom.language.reply_lines import reply_as_json, reply_from_json


def test_how_many_answers_were_cut_is_kept_and_an_old_ledger_says_none(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    asked = [Question(({"role": "user", "content": str(n)},), n=n) for n in (1, 2)]
    keys = [question.key({}) for question in asked]
    for key, question, reply in zip(keys, asked, (Reply(("a",)), Reply(("b", "c"), cut=1)), strict=True):
        ledger.put(key, {}, question, reply)
    ledger.export(tmp_path / "out.jsonl")
    new = Ledger(tmp_path / "new.sqlite")
    new.load(tmp_path / "out.jsonl")
    for held in (ledger, new):
        found = held.get_many(keys)
        assert [(found[key].texts, found[key].cut) for key in keys] == [(("a",), 0), (("b", "c"), 1)]
    assert reply_as_json(Reply(("a",))) == '{"texts": ["a"]}'  # as before there were cuts
    assert reply_as_json(Reply(("a",), cut=1)) == '{"cut": 1, "texts": ["a"]}'
    for wrong in ('{"texts": ["a"], "cut": 2}', '{"texts": ["a"], "cut": -1}', '{"texts": ["a"], "cut": true}',
                  '{"texts": ["a"], "more": 1}', '{"scores": [0.5], "cut": 1}', '{"cut": 0}'):  # fmt: skip
        with pytest.raises(ValueError, match=r"cut is a number|texts or scores"):
            reply_from_json(wrong, 0, 0)
