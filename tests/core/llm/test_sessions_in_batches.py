"""Sessions of an evaluation: requests come batch by batch, and a plan or a provider's file is made of all of them."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from pydantic import BaseModel
from recloom.errors import Finished, RecloomError
from recloom.llm import (
    BatchPlanned,
    LLMCallOptions,
    LLMOptions,
    LLMRequest,
    LLMSessions,
    NothingToSend,
    PlannedRounds,
)
from recloom.llm.fake import Fake
from recloom.llm.openai.chat import OpenAIChat


class Asker:
    """Stands for a recommender: asks two rounds for each batch, the second about what came of the first."""

    def __init__(self, options: LLMOptions) -> None:
        self.llm = options

    def score(self, users: list[str]) -> list[str]:
        later = PlannedRounds(len(users), lambda: [about(f"{user} later") for user in users])
        first = self.llm.session.ask([about(user) for user in users], later=later)
        texts = [response.texts[0] for response in first.responses]
        return [one.texts[0] for one in self.llm.session.ask([about(text) for text in texts]).responses]


def about(text: str) -> LLMRequest:
    return LLMRequest(({"role": "user", "content": f"<d>film {text}</d>"},), "p@1", max_tokens=7)


def evaluate(asker: Asker, *batches: list[str], call: LLMCallOptions | None = None) -> LLMSessions:
    with LLMSessions([asker], call) as sessions:
        for batch in batches:
            with suppress(BatchPlanned):
                asker.score(batch)
    return sessions


def rows(capsys) -> dict[str, str]:
    return dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line)


def test_a_plan_counts_all_rounds_of_all_batches_and_what_the_ledger_holds(tmp_path, capsys):
    asker = Asker(LLMOptions(Fake(), ledger=tmp_path / "l.sqlite"))
    plan = LLMCallOptions(ledger=tmp_path / "l.sqlite", run="plan")
    with pytest.raises(Finished):
        evaluate(asker, ["anna", "bert"], ["carl"], call=plan)
    assert rows(capsys)["calls"] == "6"
    done = evaluate(asker, ["anna", "bert"])
    assert done.usage.calls == 4
    with pytest.raises(Finished):
        evaluate(asker, ["anna", "bert"], ["carl"], call=plan)
    found = rows(capsys)
    assert (found["requests"], found["in the ledger"], found["calls"]) == ("6", "4", "2")
    with pytest.raises(NothingToSend):
        evaluate(asker, ["anna"], ["bert"], call=plan)
    assert "holds all 4 responses" in capsys.readouterr().out


def test_a_provider_s_batch_holds_what_all_batches_would_send_now(tmp_path, capsys):
    asker = Asker(LLMOptions(OpenAIChat("m", key_env=None)))
    out = tmp_path / "requests.jsonl"
    call = LLMCallOptions(ledger=tmp_path / "l.sqlite", run="batch", batch_out=out)
    with pytest.raises(Finished):
        evaluate(asker, ["anna", "bert"], ["carl"], call=call)
    sent = [json.loads(line)["body"]["messages"][0]["content"] for line in out.read_text().splitlines()]
    assert sorted(sent) == [
        f"<d>film {name}</d>" for name in ("anna", "bert", "carl")
    ]  # second rounds come later
    assert f"wrote {out}: 3 requests" in capsys.readouterr().out


def test_who_opened_a_session_keeps_it_and_what_is_closed_is_gone(tmp_path):
    options = LLMOptions(Fake(), ledger=tmp_path / "l.sqlite")
    asker = Asker(options)
    with options.open() as session:
        inner = evaluate(asker, ["anna"])
        assert inner.usage is None
        assert options.session is session
    assert not options.is_open
    with pytest.raises(ZeroDivisionError), LLMSessions([asker]):
        raise ZeroDivisionError
    assert not options.is_open


def test_options_for_a_run_that_asks_nothing_are_refused():
    assert LLMSessions([object.__new__(Asker)], LLMCallOptions()).usage is None
    with pytest.raises(RecloomError, match="asks no language model"):
        LLMSessions([], LLMCallOptions(max_calls=3))


class Wanted(BaseModel):
    title: str


def test_answers_of_no_use_are_counted_apart_from_requests_without_a_response(tmp_path):
    with LLMOptions(Fake("garbage"), ledger=tmp_path / "l.sqlite").open() as session:
        found = session.answers([about("anna"), about("bert")], Wanted)
    assert (found.unusable, session.usage.unusable, session.usage.failures) == (2, 2, 0)
    assert "0 without a response, 2 of no use" in str(session.usage)
