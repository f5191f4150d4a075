"""Answers that ended at max_tokens are known as such, also when they come from the ledger."""

from __future__ import annotations

import pytest
from recloom.llm.ledger.export import response_from_json, response_to_json
from recloom.llm.ledger.store import Ledger
from recloom.llm.requests import LLMRequest, LLMResponse


def test_how_many_answers_were_cut_is_kept_and_an_old_ledger_says_none(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    asked = [LLMRequest(({"role": "user", "content": str(n)},), n=n) for n in (1, 2)]
    keys = [request.key({}) for request in asked]
    for key, request, response in zip(
        keys, asked, (LLMResponse(("a",)), LLMResponse(("b", "c"), cut=1)), strict=True
    ):
        ledger.put(key, {}, request, response)
    ledger.export(tmp_path / "out.jsonl")
    new = Ledger(tmp_path / "new.sqlite")
    new.load(tmp_path / "out.jsonl")
    for held in (ledger, new):
        found = held.get_many(keys)
        assert [(found[key].texts, found[key].cut) for key in keys] == [(("a",), 0), (("b", "c"), 1)]
    assert response_to_json(LLMResponse(("a",))) == '{"texts": ["a"]}'  # as before there were cuts
    assert response_to_json(LLMResponse(("a",), cut=1)) == '{"cut": 1, "texts": ["a"]}'
    for wrong in ('{"texts": ["a"], "cut": 2}', '{"texts": ["a"], "cut": -1}', '{"texts": ["a"], "cut": true}',
                  '{"texts": ["a"], "more": 1}', '{"scores": [0.5], "cut": 1}', '{"cut": 0}'):  # fmt: skip
        with pytest.raises(ValueError, match=r"cut is a number|texts or scores"):
            response_from_json(wrong, 0, 0)
