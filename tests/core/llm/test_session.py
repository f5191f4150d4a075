"""Options of a command become a session, whose rounds share a ledger, a budget and the usage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel
from recloom import plugins
from recloom.cli import invoke
from recloom.cli import llm_commands as commands
from recloom.cli import main as cli
from recloom.command import command
from recloom.errors import Finished, RecloomError
from recloom.llm.client.budget import BudgetError, Prices
from recloom.llm.client.options import LLMOptions
from recloom.llm.client.session import PlannedRounds
from recloom.llm.client.usage import Usage
from recloom.llm.fake import Fake
from recloom.llm.ledger.store import Ledger
from recloom.llm.openai.chat import OpenAIChat
from recloom.llm.requests import LLMRequest


class Summary(BaseModel):
    summary: str


@dataclass(frozen=True)
class Counting(Fake):
    """Fake that remembers what it was asked."""

    asked: list[str] = field(default_factory=list, compare=False)
    without_effect: ClassVar[tuple[str, ...]] = ("asked",)

    def generate(self, messages, **options):
        self.asked.append(messages[-1]["content"])
        return super().generate(messages, **options)


def some(count: int, what: str = "film") -> list[LLMRequest]:
    return [
        LLMRequest(({"role": "user", "content": f"<d>{what} number{n}</d>"},), "p@1") for n in range(count)
    ]


@command("say twice")
def twice(data: Path, *, llm: LLMOptions, loud: bool = False) -> None:
    """Ask two rounds, the second about what came of the first.

    Nothing is kept but the replies.

    Args:
        data: a folder.
        llm: whom to ask.
        loud: in capitals.
    """
    with llm.open() as session:
        first = session.answers(some(2), Summary, later=PlannedRounds(3, lambda: some(3, "later")))
        words = [one.summary for one in first.found if isinstance(one, Summary)]
        second = session.ask(some(3, words[0]))
        print(f"{data} {loud} {len(second.responses)} {session.usage.calls} calls")


@command("silent")
def silent(*, count: int = 1) -> None:
    """Ask nobody."""


@pytest.fixture
def main(monkeypatch, tmp_path):
    """The command line with these two commands and those that are installed, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    every = invoke.collect("register_commands") | {"say twice": twice, "silent": silent}
    models = invoke.collect("register_language_models")
    for module in (cli, invoke, plugins):
        monkeypatch.setattr(module, "collect", lambda hook: every if hook == "register_commands" else models)
    return lambda text: cli.main(text.split())


def told(main, text: str, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        main(text)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_command_asks_whom_it_is_told_to(main, capsys, tmp_path):
    main("say twice ml --llm.model Fake --llm.model.seed 3 --loud --llm.max-calls 5 --llm.ledger kept.sqlite")
    assert capsys.readouterr().out == "ml True 3 5 calls\n"
    held = Ledger(tmp_path / "kept.sqlite", offline=True).totals()
    assert [total.responses for total in held] == [5]
    main("say twice ml --llm.model Fake --llm.model.seed 3 --llm.ledger kept.sqlite --llm.offline")
    assert capsys.readouterr().out == "ml False 3 0 calls\n"


def test_one_budget_holds_for_all_rounds_and_what_was_paid_for_stays(main, capsys, tmp_path):
    said = told(main, "say twice ml --llm.model Fake --llm.max_calls 4", capsys)
    assert "the budget is used up (4 of 4 calls" in said
    assert "\n4 of 5 responses are kept in llm-ledger.sqlite, 1 are still to be sent.\n" in said
    assert "\nThis run sent 4: " in said
    assert "The same command goes on from there; its limits (--llm.max_calls) count anew." in said
    main("say twice ml --llm.model Fake --llm.max_calls 1")
    assert capsys.readouterr().out == "ml False 3 1 calls\n"


def test_what_a_budget_stops_is_told_of_all_rounds_whichever_it_stops(main, capsys):
    said = told(main, "say twice ml --llm.model Fake --llm.max_calls 1", capsys)
    assert "\n1 of 5 responses are kept in llm-ledger.sqlite, 4 are still to be sent.\n" in said
    assert "\nThis run sent 1: " in said
    said = told(main, "say twice ml --llm.model Fake --llm.max_calls 3", capsys)
    assert "\n4 of 5 responses are kept in llm-ledger.sqlite, 1 are still to be sent.\n" in said
    assert "\nThis run sent 3: " in said
    said = told(main, "say twice ml --llm.model Fake --llm.max_calls 0", capsys)
    assert "\nThis run sent 0: 0 prompt and 0 completion tokens.\n" in said
    assert "The same command goes on from there once its limits (--llm.max_calls) are larger." in said


def test_tokens_and_money_of_a_session_that_a_budget_stopped_are_those_of_all_its_rounds(tmp_path):
    model = Fake()
    options = LLMOptions(model, ledger=tmp_path / "l.sqlite", max_calls=3, prices=Prices(1000, 2000, "EUR"))
    session = options.open()
    session.ask(some(2), later=PlannedRounds(2))
    with pytest.raises(BudgetError) as stopped:
        session.ask(some(2, "second"))
    asked = [*some(2), some(1, "second")[0]]
    prompt = sum(model.count_tokens(q.messages[0]["content"]) for q in asked)
    answered = sum(map(model.count_tokens, ["film, number0", "film, number1", "number0, second"]))
    money = (prompt * 1000 + answered * 2000) / 1e6
    said = f"This run sent 3: {prompt} prompt and {answered} completion tokens (estimated), {money:.4f} EUR."
    assert "\n3 of 4 responses are kept in" in str(stopped.value)
    assert f"\n{said}\n" in str(stopped.value)


def test_a_server_that_fails_in_a_later_round_does_not_hide_the_earlier_ones(tmp_path):
    @dataclass(frozen=True)
    class Gone(Fake):
        def generate(self, messages, **options):
            if "later" in messages[0]["content"]:
                raise RecloomError("the server is gone.")
            return super().generate(messages, **options)

    session = LLMOptions(Gone(), ledger=tmp_path / "l.sqlite").open()
    session.ask(some(2), later=PlannedRounds(3))
    with pytest.raises(RecloomError) as stopped:
        session.ask(some(3, "later"))
    assert "the server is gone.\n2 of 5 responses are kept in" in str(stopped.value)
    assert str(stopped.value).endswith("\nThe same command goes on from there.")


def test_scores_are_paid_for_like_answers(tmp_path):
    prompts = [q.messages for q in some(3)]
    requests = [LLMRequest(messages, options=("A", "B")) for messages in prompts]
    read = sum(Fake().count_tokens(messages[0]["content"]) for messages in prompts)
    with LLMOptions(Fake(), ledger=tmp_path / "l.sqlite", prices=Prices(1000, 1)).open() as session:
        responses = session.ask(requests).responses
        assert [response.prompt_tokens > 0 for response in responses] == [True] * 3
        assert (session.usage.prompt_tokens, session.usage.completion_tokens, session.usage.estimated) == (
            read,
            0,
            3,
        )
        assert session.usage.money == pytest.approx(read / 1000)
        assert f"{read} prompt and 0 completion tokens (estimated), {read / 1000:.4f} USD" in str(
            session.usage
        )
    (total,) = Ledger(tmp_path / "l.sqlite").totals()
    assert total.prompt_tokens == read
    limited = LLMOptions(Fake(seed=1), ledger=tmp_path / "l.sqlite", max_tokens=2 * read // 3 + 15).open()
    with pytest.raises(BudgetError, match=rf"{2 * read // 3} of {2 * read // 3 + 15} tokens"):
        limited.ask(requests)


def test_usage_says_how_many_of_its_tokens_are_estimated():
    reported = Usage(calls=3, prompt_tokens=30, completion_tokens=3)
    assert "(estimated" not in str(reported)
    assert "33 prompt and 4 completion tokens (estimated for 1 of 4 calls), 0.0 s" in str(
        reported + Usage(calls=1, prompt_tokens=3, completion_tokens=1, estimated=1)
    )


def test_money_is_limited_with_prices(main, capsys):
    said = told(main, "say twice ml --llm.model Fake --llm.max_money 1", capsys)
    assert "--llm.max_money 1 needs prices per million tokens; found none. Add them, such as" in said
    told(main, f"say twice ml --llm.model Fake --llm.max_money 0 {said.partition('such as ')[2]}", capsys)
    prices = "--llm.prices.prompt 1000000 --llm.prices.completion 1000000"
    assert "of 1.0000 USD" in told(main, f"say twice ml --llm.model Fake --llm.max_money 1 {prices}", capsys)
    assert "say --llm.prices.completion." in told(
        main, "say twice ml --llm.model Fake --llm.prices.prompt 1", capsys
    )


def test_a_plan_counts_later_rounds_and_writes_nothing(main, capsys, tmp_path):
    main(
        "llm plan say twice ml --llm.model Fake --llm.prices.prompt 1 --llm.prices.completion 2 --llm.rate 2"
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["calls", "5"] in lines
    assert ["completion", "tokens", "at", "most", "1,280"] in lines  # 5 answers of 256
    assert ["time", "2.5", "s"] in lines
    assert not list(tmp_path.iterdir())


def test_what_a_plan_advises_can_be_typed(main, capsys, tmp_path):
    main("llm plan say twice ml --llm.model Fake --llm.ledger kept.sqlite")
    said = capsys.readouterr().out
    assert ["money", "at", "most", "not", "known"] in [line.split() for line in said.splitlines()]
    prices, rate = re.findall(r"--llm.prices.*|--llm.rate.*", said)
    main(f"llm plan say twice ml --llm.model Fake --llm.ledger kept.sqlite {prices} {rate}")
    again = capsys.readouterr().out
    assert "not known" not in again
    assert "--llm.rate" not in again.partition("next: ")[0]
    assert not list(tmp_path.iterdir())
    (line,) = re.findall(r"^next: recloom (.*)", again, re.M)
    assert line.endswith(f"{prices} {rate}")
    main(line)
    assert capsys.readouterr().out == "ml False 3 5 calls\n"


def test_what_is_advised_is_quoted_for_a_shell(main, capsys, tmp_path):
    with pytest.raises(Finished):
        commands.plan(["say", "twice", "my data", "--llm.model", "Fake"])
    assert capsys.readouterr().out.endswith("next: recloom say twice 'my data' --llm.model Fake\n")


def test_a_plan_goes_as_far_as_the_ledger_leads(main, capsys):
    told(main, "say twice ml --llm.model Fake --llm.max_calls 3", capsys)
    main("llm plan say twice ml --llm.model Fake")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["requests", "5"] in lines  # of both rounds, the second as it is
    assert ["in", "the", "ledger", "3"] in lines
    assert ["calls", "2"] in lines
    main("say twice ml --llm.model Fake")
    capsys.readouterr()
    main("llm plan say twice ml --llm.model Fake")
    said = "Nothing is left to send: the ledger holds all 5 responses.\nnext: recloom say twice ml --llm.model Fake\n"
    assert capsys.readouterr().out == said


OPENAI = "--llm.model OpenAIChat --llm.model.model small"


def results(requests: Path, to: Path, text: str) -> None:
    keys = [json.loads(line)["custom_id"] for line in requests.read_text().splitlines()]
    body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {}}
    lines = [{"custom_id": key, "response": {"status_code": 200, "body": body}} for key in keys]
    to.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_batch_round_by_round_ends_in_the_command_without_a_call(main, capsys, tmp_path):
    export = "llm batch-export out{}.jsonl say twice ml " + OPENAI
    for number, (count, text) in enumerate([(2, "no object"), (2, '{"summary": "fine"}'), (3, "so it is")]):
        main(export.format(number))
        said = capsys.readouterr().out
        assert f"wrote out{number}.jsonl: {count} requests" in said
        results(tmp_path / f"out{number}.jsonl", tmp_path / "results.jsonl", text)
        (taken,) = re.findall(r"^  recloom (llm batch-import .*)", said, re.M)
        main(taken.replace("RESULTS", "results.jsonl"))
        (following,) = re.findall(r"^  recloom (llm batch-export .*)", said, re.M)
        assert following.replace("ANOTHER", f"out{number + 1}.jsonl") == export.format(number + 1)
    capsys.readouterr()
    main(export.format(3))
    said = capsys.readouterr().out
    assert (
        said
        == f"Nothing is left to send: the ledger holds all 7 responses.\nnext: recloom say twice ml {OPENAI}\n"
    )
    assert not (tmp_path / "out3.jsonl").exists()
    main(f"say twice ml {OPENAI} --llm.offline")
    assert capsys.readouterr().out == "ml False 3 0 calls\n"


def test_a_batch_is_for_a_provider_and_needs_a_file(main, capsys):
    assert "found Fake" in told(main, "llm batch-export out.jsonl say twice ml --llm.model Fake", capsys)
    assert "--llm.batch_out FILE" in told(main, f"say twice ml {OPENAI} --llm.run batch", capsys)
    assert "say both or none" in told(main, f"say twice ml {OPENAI} --llm.batch_out out", capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llm plan", "say COMMAND."),
        ("llm batch-export", "say OUT, COMMAND."),
        ("llm batch-export out", "say COMMAND."),
        ("llm plan silent", "`recloom silent` does not take --llm options"),
        ("llm plan fit --model SASRec", "`recloom fit` does not take --llm options"),
        ("llm batch-export out data check x", "`recloom data check` does not take --llm options"),
        ("llm plan say twic", "is not among the commands that ask a language model. Did you mean say twice?"),
        ("llm plan --llm.rate 2 say twice ml", "say the command before its options, such as `profile DATA ... --llm"),
        ("say twice ml", "say --llm.model: one of Fake, "),
        ("say twice", "say DATA, --llm.model."),
        ("say twice ml --llm.model Fak", "--llm.model: 'Fak' is not among the names to choose from. Did"),
        ("say twice ml --llm.model HashingNgrams", "Installed: Fake, OpenAIChat, Transformers."),
        ("say twice ml --llm.model OpenAIChat", "say --llm.model.model."),
        ("say twice ml --llm.model Fake --llm.model.polcy x", "mean policy? It has: labels, policy, seed, share."),
        ("say twice ml --llm.model Fake --llm.model.policy x", "--llm.model.policy takes one of overlap, prompt_order"),
        ("say twice ml --llm.model.policy x --llm.model Fake", "say --llm.model NAME before --llm.model.policy."),
        ("say twice ml --llm.model Fake --llm.max_calls x", "--llm.max_calls takes a value of type int or null; f"),
        ("say twice ml --llm.model Fake --llm.max-cals 3", "Did you mean --llm.max_calls?"),
        ("say twice ml --llm.model Fake --llm.max_calls -1", "--llm.max_calls must be at least 0; found -1"),
        ("say twice ml --llm.model Fake --llm.rate 0", "--llm.rate must be a number of calls per second above 0; f"),
        ("say twice ml --llm.model Fake --llm.offline", "--llm.offline sends nothing, and there is no ledger at llm-"),
        ("llm show", "there is no ledger at llm-ledger.sqlite. A command that asks a language model makes it"),
        ("llm show --ledger no.sqlite", "`recloom say twice`, "),
        ("llm export out.jsonl --ledger no.sqlite", "there is no ledger at no.sqlite. A command that asks"),
        ("llm batch-import results --requests out.jsonl", "out.questions.jsonl cannot be read: No such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(main, capsys, tmp_path, text, message):
    assert message in told(main, text, capsys)
    assert not list(tmp_path.iterdir())


def test_the_help_tells_of_all_options(main, capsys):
    for text in ("say twice --help", "llm plan say twice --help"):
        with pytest.raises(SystemExit):
            main(text)
        shown = " ".join(capsys.readouterr().out.split())
        for words in (
            "usage: recloom say twice",
            "Ask two rounds, the second about what came of the first. Nothing is kept but the replies.",
            "--llm.model MODEL",
            "--llm.max_money",
            "tokens of prompts and answers",
        ):
            assert words in shown
    with pytest.raises(SystemExit):
        main("llm plan --help")
    assert "usage: recloom llm plan COMMAND [--option VALUE ...]" in capsys.readouterr().out


def test_an_encoder_and_a_language_model_are_known_by_name_in_a_new_process(tmp_path):
    folder = tmp_path / "none"
    asked = [sys.executable, "-m", "recloom.cli.main", "embed", str(folder), "--encoder", "HashingNgrams"]
    done = subprocess.run(asked, text=True, capture_output=True, env=os.environ)
    assert "not a folder" in done.stderr
    assert "HashingNgrams" not in done.stderr


def test_a_session_in_python(tmp_path):
    model = Counting()
    options = LLMOptions(model, ledger=tmp_path / "l.sqlite", prices=Prices(1, 1), max_money=1.0)
    with options.open() as session:
        assert session.usage.requests == 0
        found = session.answers(some(2), Summary)
        session.ask(some(2))
    assert len(model.asked) == session.usage.calls == 4
    assert session.usage.requests == 4
    assert session.usage.money == sum(usage.money for usage in session.usages) > 0
    assert len(set(found.keys)) == 2
    assert set(Ledger(tmp_path / "l.sqlite").get_many(found.keys)) == set(found.keys)
    with pytest.raises(Finished):
        LLMOptions(model, ledger=tmp_path / "none.sqlite", run="plan").open().ask([])
    with pytest.raises(BudgetError):
        LLMOptions(model, ledger=tmp_path / "l.sqlite", max_calls=0).open().ask(some(1, "new"))
    assert len(model.asked) == 4


def test_what_a_check_refuses_is_asked_again_once_with_the_reason(tmp_path):
    model = Counting()
    with LLMOptions(model, ledger=tmp_path / "l.sqlite").open() as session:
        found = session.answers(some(2), Summary, check=lambda at, one: f"no {one.summary}" if at else "")
    assert isinstance(found.found[0], Summary)
    ((at, failure),) = found.failures
    assert (at, failure.reason, found.retried) == (1, "no summary: film, number1", 1)
    assert model.asked[2].startswith("That answer cannot be used: no summary: film, number1.")
    assert failure.texts


def test_keys_are_those_of_the_last_attempt(tmp_path):
    with LLMOptions(Fake(policy="garbage"), ledger=tmp_path / "l.sqlite").open() as session:
        found = session.answers(some(2), Summary)
    responses = Ledger(tmp_path / "l.sqlite").get_many(found.keys)
    assert (len(responses), found.retried, session.usage.calls) == (2, 2, 4)
    assert [responses[key].texts for key in found.keys] == [failure.texts for _, failure in found.failures]


def test_a_cut_answer_is_known_as_one_when_it_comes_from_the_ledger(tmp_path):
    short = [LLMRequest(({"role": "user", "content": "<d>moon ship dark sea</d>"},), max_tokens=2)]
    with LLMOptions(Fake(), ledger=tmp_path / "l.sqlite").open() as session:
        for cached in (False, True):
            (response,) = session.ask(short).responses
            assert (response.texts, response.cut, response.cached) == (("dark, moon,",), 1, cached)
        (failure,) = session.answers(short, Summary).found
    assert failure.reason.endswith("(it ended at max_tokens)")


def test_the_wrong_model_for_a_batch_writes_nothing(tmp_path):
    model, files = OpenAIChat("m"), {"ledger": tmp_path / "l.sqlite", "batch_out": tmp_path / "b.jsonl"}
    options = LLMOptions(model, run="batch", **files)
    with pytest.raises(RecloomError, match="cannot score"):
        options.open().ask([LLMRequest(({"role": "user", "content": "?"},), options=("a", "b"))])
    assert not list(tmp_path.iterdir())
