"""A provider's batch files: only what the ledger lacks goes out, and results find their question in any order."""

from __future__ import annotations

import json
import random

import pytest
from recloom.cli import main as cli
from recloom.errors import RecloomError
from recloom.llm.client.runner import ask
from recloom.llm.ledger import provider_batch as batch_files
from recloom.llm.ledger.provider_batch import (
    body,
    index_path,
    print_report,
    read_batch,
    write_batch,
    write_failures,
)
from recloom.llm.ledger.store import Ledger
from recloom.llm.openai.chat import OpenAIChat
from recloom.llm.requests import Failure, LLMRequest, LLMResponse

SCHEMA = json.dumps({"type": "object", "properties": {"topic": {"type": "string"}}})


def request(text: str, **more) -> LLMRequest:
    return LLMRequest(
        ({"role": "system", "content": "be brief"}, {"role": "user", "content": text}), "p@1", **more
    )


def some(count: int) -> list[LLMRequest]:
    return [request(f"question {n}") for n in range(count)]


def chat(*texts: str, **usage: int) -> dict:
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
    return {"choices": choices, "usage": {"prompt_tokens": 12, "completion_tokens": 3} | usage}


def result(key: str, *texts: str) -> dict:
    return {
        "id": "r",
        "custom_id": key,
        "response": {"status_code": 200, "body": chat(*texts)},
        "error": None,
    }


def write(path, results) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in results), "utf-8")


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def model():
    return OpenAIChat(model="gpt-4o-mini", structured="json_schema", extra={"top_p": 0.5})


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def test_a_request_is_the_one_that_a_server_would_get(stub, ledger, tmp_path):
    model = OpenAIChat(
        model="m", base_url=stub.url, structured="json_schema", extra={"top_p": 0.5, "seed": None}, key_env=None,
        token_limit="max_completion_tokens",
    )  # fmt: skip
    asked = [request("a", n=2, temperature=0.7, seed=3, max_tokens=9), request("b", schema=SCHEMA)]
    stub.usual = lambda body: stub.chat(*["fine"] * body.get("n", 1))
    write_batch(model, asked, ledger, tmp_path / "requests.jsonl")
    ask(model, asked, ledger)
    sent = {json.dumps(one, sort_keys=True) for one in stub.bodies}
    assert len(sent) == 2
    lines = read(tmp_path / "requests.jsonl")
    assert {json.dumps(line["body"], sort_keys=True) for line in lines} == sent
    assert {line["custom_id"] for line in lines} == {q.key(model.identity) for q in asked}
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}


def test_a_request_by_hand(model):
    assert body(model, request("hi", n=2, max_tokens=5, temperature=0.5, seed=1)) == {
        "model": "gpt-4o-mini", "messages": list(request("hi").messages), "n": 2, "max_tokens": 5,
        "temperature": 0.5, "seed": 1, "top_p": 0.5,
    }  # fmt: skip


def test_only_what_the_ledger_lacks_is_written_and_once(model, ledger, tmp_path):
    for asked in some(3):
        ledger.put(asked.key(model.identity), model.identity, asked, LLMResponse(("held",)))
    written = write_batch(model, some(8) * 2, ledger, tmp_path / "requests.jsonl")
    assert (written.requests, written.cached) == (5, 3)
    ids = [line["custom_id"] for line in read(tmp_path / "requests.jsonl")]
    assert ids == [asked.key(model.identity) for asked in some(8)[3:]]


def test_results_in_any_order_reach_the_ledger_and_a_run_asks_nothing(model, ledger, tmp_path):
    write_batch(model, some(20), ledger, tmp_path / "requests.jsonl")
    keys = [asked.key(model.identity) for asked in some(20)]
    lines = [result(key, f"reply {n}") for n, key in enumerate(keys)]
    random.Random(0).shuffle(lines)
    write(tmp_path / "results.jsonl", lines)
    for kept, held in ((20, 0), (0, 20)):
        taken = read_batch(tmp_path / "results.jsonl", tmp_path / "requests.jsonl", ledger)
        assert (taken.kept, taken.held, taken.unknown, taken.missing) == (kept, held, 0, 0)
    found = ask(model, some(20), ledger, offline=True)
    assert [response.texts for response in found.responses] == [(f"reply {n}",) for n in range(20)]
    assert {(response.prompt_tokens, response.completion_tokens) for response in found.responses} == {(12, 3)}


def test_errors_are_counted_by_reason_and_what_is_strange_is_not_taken(model, ledger, tmp_path):
    write_batch(model, [*some(8), request("two", n=2)], ledger, tmp_path / "requests.jsonl")
    keys = [asked.key(model.identity) for asked in (*some(8), request("two", n=2))]
    bad = {"status_code": 429, "body": {"error": {"message": "too many"}}}
    lines = [
        result(keys[0], "fine"),
        result(keys[0], "another"),
        {"custom_id": keys[1], "response": bad, "error": None},
        {"custom_id": keys[2], "response": bad, "error": None},
        {"custom_id": keys[3], "response": None, "error": {"code": "batch_expired", "message": "too late"}},
        {"custom_id": keys[4], "response": {"status_code": 200, "body": {"choices": []}}},
        {"custom_id": keys[5], "response": {"status_code": 200, "body": "<html>"}},
        result(keys[8], "only one of two"),
        result("0" * 64, "whose?"),
        {"custom_id": 5},
    ]
    write(tmp_path / "results.jsonl", lines)
    taken = read_batch(tmp_path / "results.jsonl", tmp_path / "requests.jsonl", ledger)
    assert (taken.kept, taken.unknown, taken.missing) == (1, 3, 2)
    failed = [(keys.index(key), failure.reason) for key, failure in taken.failures]
    assert [at for at, _ in failed] == [1, 2, 3, 4, 5, 8]
    assert failed[0][1] == failed[1][1] == "the provider failed (429): too many"
    assert failed[2][1] == "the provider failed (no status): too late"
    assert failed[5][1] == "the result holds fewer answers than were asked for"
    assert {key: response.texts for key, response in ledger.get_many(keys).items()} == {keys[0]: ("fine",)}


def test_results_of_another_batch_are_refused(model, ledger, tmp_path):
    write_batch(model, some(2), ledger, tmp_path / "requests.jsonl")
    write(tmp_path / "results.jsonl", [result("0" * 64, "whose?")])
    with pytest.raises(RecloomError, match=r"results.jsonl holds no result for .*requests.jsonl"):
        read_batch(tmp_path / "results.jsonl", tmp_path / "requests.jsonl", ledger)


def test_a_file_that_breaks_off_is_named_and_what_came_before_is_kept(model, ledger, tmp_path):
    write_batch(model, some(2), ledger, tmp_path / "requests.jsonl")
    keys = [asked.key(model.identity) for asked in some(2)]
    text = json.dumps(result(keys[0], "fine")) + "\n" + json.dumps(result(keys[1], "cut"))[:50]
    (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(RecloomError, match=r"results.jsonl, line 2: expected a JSON object"):
        read_batch(tmp_path / "results.jsonl", tmp_path / "requests.jsonl", ledger)
    assert ledger.get_many(keys).keys() == {keys[0]}


@pytest.mark.parametrize("part", ["identity", "question", "key"])
def test_questions_that_were_changed_are_refused(model, ledger, tmp_path, part):
    write_batch(model, some(2), ledger, tmp_path / "requests.jsonl")
    side = index_path(tmp_path / "requests.jsonl")
    lines = read(side)
    {"identity": lambda d: d["identity"].update(model="better"),
     "question": lambda d: d["question"].update(prompt="other@1"),
     "key": lambda d: d.update(key="0" * 64)}[part](lines[1])  # fmt: skip
    write(side, lines)
    write(tmp_path / "results.jsonl", [result(lines[0]["key"], "fine")])
    with pytest.raises(
        RecloomError, match=r"requests.questions.jsonl, line 2: not a request as it was written"
    ):
        read_batch(tmp_path / "results.jsonl", tmp_path / "requests.jsonl", ledger)
    assert ledger.totals() == []


def test_questions_with_options_are_refused_before_anything_is_written(model, ledger, tmp_path):
    with pytest.raises(RecloomError, match=r"cannot score options.*runs locally"):
        write_batch(
            model, [*some(2), request("a", options=("yes", "no"))], ledger, tmp_path / "requests.jsonl"
        )
    assert not list(tmp_path.glob("requests*"))


def test_questions_whose_results_may_still_come_are_not_overwritten(model, ledger, tmp_path):
    write_batch(model, some(2), ledger, tmp_path / "requests.jsonl")
    before = (tmp_path / "requests.questions.jsonl").read_bytes()
    with pytest.raises(RecloomError, match=r"requests.questions.jsonl exists, and results may still come"):
        write_batch(model, some(3), ledger, tmp_path / "requests.jsonl")
    assert (tmp_path / "requests.questions.jsonl").read_bytes() == before
    assert write_batch(model, some(3), ledger, tmp_path / "requests.jsonl", overwrite=True).requests == 3


def test_what_a_provider_takes_in_one_file_is_not_exceeded(model, ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_files, "PER_FILE", 3)
    written = write_batch(model, some(7), ledger, tmp_path / "requests.jsonl")
    assert [path.name for path in written.files] == ["requests.jsonl", "requests-2.jsonl", "requests-3.jsonl"]
    assert [len(read(path)) for path in written.files] == [3, 3, 1]
    monkeypatch.setattr(batch_files, "BYTES_PER_FILE", 500)
    for path in write_batch(model, some(7), ledger, tmp_path / "small.jsonl").files:
        assert path.stat().st_size <= 500
    assert len(read(written.request_index)) == 7


def test_a_secret_goes_to_no_file(model, ledger, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    with pytest.raises(RecloomError, match="OPENAI_API_KEY") as told:
        write_batch(
            model, [*some(2), request("my key is sk-0123456789")], ledger, tmp_path / "requests.jsonl"
        )
    assert "sk-0" not in str(told.value)
    write_batch(model, some(2), ledger, tmp_path / "requests.jsonl")
    keys = [asked.key(model.identity) for asked in some(2)]
    write(tmp_path / "results.jsonl", [result(keys[0], "you are sk-0123456789"), result(keys[1], "fine")])
    taken = read_batch(tmp_path / "results.jsonl", tmp_path / "requests.jsonl", ledger)
    ((key, failure),) = taken.failures
    assert (taken.kept, key) == (1, keys[0])
    assert "OPENAI_API_KEY" in failure.reason
    assert "sk-0" not in failure.reason
    taken.failures.append((key, Failure("2 answers came of 1", ("you are sk-0123456789", "fine"))))
    write_failures(taken, tmp_path / "results.jsonl")
    assert read(tmp_path / "results.failures.jsonl")[1]["texts"] == [
        "you are [value of OPENAI_API_KEY]",
        "fine",
    ]
    files = [path for path in tmp_path.iterdir() if path.name != "results.jsonl"]
    assert len(files) >= 3
    assert not [path for path in files if b"sk-0123456789" in path.read_bytes()]


def test_the_command_says_what_came(model, ledger, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_batch(model, some(3), ledger, tmp_path / "requests.jsonl")
    keys = [asked.key(model.identity) for asked in some(3)]
    bad = {
        "custom_id": keys[1],
        "response": {"status_code": 500, "body": {"error": {"message": "\x1b[2Joh"}}},
    }
    write(tmp_path / "results.jsonl", [result(keys[0], "fine"), bad])
    cli.main(
        ["llm", "batch-import", "results.jsonl", "--requests", "requests.jsonl", "--ledger", "ledger.sqlite"]
    )
    shown = capsys.readouterr().out
    assert "1 responses are new in ledger.sqlite, 0 were held already" in shown
    assert "1 results failed, 0 belong to no open request\n1 requests have no result" in shown
    assert f"1 x the provider failed (500): ␛[2Joh\n      {keys[1][:16]}…\n" in shown
    assert shown.endswith("what failed, and why: results.failures.jsonl\n")
    assert ledger.get_many(keys).keys() == {keys[0]}


def test_every_failed_id_is_counted_and_kept_and_the_first_are_named(model, ledger, tmp_path, capsys):
    asked, path = some(30), tmp_path / "results.jsonl"
    write_batch(model, asked, ledger, tmp_path / "requests.jsonl")
    keys = [one.key(model.identity) for one in asked]
    faults = ["too many"] * 5 + [f"reason {n}" for n in range(12)]
    bad = [{"custom_id": key, "error": {"message": fault}} for key, fault in zip(keys, faults, strict=False)]
    write(path, [*bad, *(result(key, "fine") for key in keys[17:])])
    taken = read_batch(path, tmp_path / "requests.jsonl", ledger)
    print_report(taken, ledger.path)
    write_failures(taken, path)
    shown = capsys.readouterr().out
    assert "17 results failed" in shown
    assert f"  5 x the provider failed (no status): too many\n      {keys[0][:16]}…, " in shown
    assert f"{keys[2][:16]}… and 2 more\n" in shown
    assert "  and 3 other reasons\n" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if str(tmp_path) not in line)
    kept = read(tmp_path / "results.failures.jsonl")
    assert [line["of"] for line in kept] == keys[:17]
    assert [line["reason"].rpartition(": ")[2] for line in kept] == faults
    assert {len(line["of"]) for line in kept} == {64}


def test_results_without_a_failure_leave_no_list_of_failures(model, ledger, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_batch(model, some(1), ledger, tmp_path / "requests.jsonl")
    (key,) = (one.key(model.identity) for one in some(1))
    command = ["llm", "batch-import", "results.jsonl", "--requests", "requests.jsonl", "--ledger", "l.sqlite"]
    for line, listed in (({"custom_id": key, "error": "lost"}, True), (result(key, "fine"), False)):
        write(tmp_path / "results.jsonl", [line])
        cli.main(command)
        assert (tmp_path / "results.failures.jsonl").exists() is listed
        assert ("what failed, and why" in capsys.readouterr().out) is listed
