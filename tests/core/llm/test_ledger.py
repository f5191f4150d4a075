"""The ledger: what goes in comes out as it was, from any thread and process, and nothing secret goes in."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from recloom.cli import main as cli
from recloom.errors import LLMRequestError, RecloomError
from recloom.llm.ledger import store as ledger_file
from recloom.llm.ledger.store import Ledger, ledger_path
from recloom.llm.requests import LLMRequest, LLMResponse

IDENTITY = {"class": "Toy", "model": "toy-1"}
SECRET = 'sk-\\"5ecret"-value'
HOSTILE = (
    "".join(map(chr, range(0x20)))
    + "\x7f\x85\u2028\u202e\ud83d\ude00 \udfff \ud800 \U0001f600 </film> \x1b[2J"
)


def request(text: str = "hello", **more) -> LLMRequest:
    return LLMRequest(({"role": "user", "content": text},), "greet@1", **more)


def put(ledger: Ledger, asked: LLMRequest, response: LLMResponse, identity=IDENTITY) -> str:
    key = asked.key(identity)
    ledger.put(key, identity, asked, response)
    return key


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "kept" / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "text", [HOSTILE, "x" * 1_000_000, "", "\0"], ids=["hostile", "1 MB", "empty", "NUL"]
)
def test_a_reply_comes_back_as_it_was_also_through_an_export(ledger, tmp_path, text):
    key = put(ledger, request(text), LLMResponse((text, "second"), (), 3, 4))
    assert ledger.get_many([key]) == {key: LLMResponse((text, "second"), (), 3, 4, cached=True)}
    assert ledger.export(tmp_path / "out.jsonl") == 1
    other = Ledger(tmp_path / "other.sqlite")
    assert other.load(tmp_path / "out.jsonl") == (1, 0)
    assert other.get_many([key])[key].texts == (text, "second")


def test_scores_come_back_as_they_were(ledger):
    scores = (-0.1, -1e-300, float("-inf"), -2.0)
    key = put(ledger, request(options=("a", "b", "c", "d")), LLMResponse(scores=scores))
    assert ledger.get_many([key])[key] == LLMResponse(scores=scores, cached=True)


def test_the_first_reply_stays(ledger):
    key = put(ledger, request(), LLMResponse(("first",)))
    assert put(ledger, request(), LLMResponse(("second",))) == key
    assert ledger.get_many([key])[key].texts == ("first",)


def test_only_what_was_asked_for_is_found_in_any_number(ledger):
    keys = [put(ledger, request(str(n)), LLMResponse((str(n),))) for n in range(1203)]
    found = ledger.get_many([*keys[1:], "absent"])
    assert {key: response.texts[0] for key, response in found.items()} == {
        key: str(n) for n, key in enumerate(keys) if n
    }


def test_a_key_must_be_that_of_the_question(ledger):
    with pytest.raises(RecloomError, match="not that of the request"):
        ledger.put(request("other").key(IDENTITY), IDENTITY, request(), LLMResponse(("a",)))
    assert ledger.totals() == []


def test_totals_by_model_and_prompt(ledger):
    put(ledger, request("a"), LLMResponse(("x",), (), 10, 1))
    put(ledger, request("b"), LLMResponse(("x",), (), 20, 2))
    put(ledger, request("a"), LLMResponse(("x",), (), 5, 5), IDENTITY | {"seed": 1})
    put(ledger, request("a"), LLMResponse(("x",), (), 7, 7), {"class": "Other"})
    shown = {
        (t.model, t.prompt): (t.responses, t.prompt_tokens, t.completion_tokens) for t in ledger.totals()
    }
    assert shown == {("Toy toy-1", "greet@1"): (3, 35, 8), ("Other", "greet@1"): (1, 7, 7)}


def test_threads_share_one_ledger(ledger):
    def work(thread: int) -> None:
        for n in range(50):
            key = put(ledger, request(f"{n % 40} {thread % 2}"), LLMResponse((f"{thread}",)))
            assert ledger.get_many([key])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(total.responses for total in ledger.totals()) == 80


MANY = """
import sys
from recloom.llm.ledger.store import Ledger
from recloom.llm.requests import LLMRequest, LLMResponse
who, path = sys.argv[1:]
sys.stdin.readline()
ledger = Ledger(path)
for n in range(60):
    asked = LLMRequest(({"role": "user", "content": str(n) if n < 20 else f"{who} {n}"},), "p@1")
    ledger.put(asked.key({"class": "Toy"}), {"class": "Toy"}, asked, LLMResponse((who,)))
print("kept", flush=True)
sys.stdin.readline()
"""


def test_processes_make_and_fill_one_file_together_and_may_be_killed(tmp_path):
    path = tmp_path / "ledger.sqlite"
    command = [sys.executable, "-c", MANY]
    started = [
        subprocess.Popen([*command, str(n), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.stdout.readline() for process in started] == ["kept\n"] * 4
    for process in started:
        process.kill()  # SIGKILL: nothing is closed, nothing is flushed
        process.communicate()
    assert [total.responses for total in Ledger(path, offline=True).totals()] == [20 + 4 * 40]
    assert sorted(found.name.removeprefix("ledger.sqlite") for found in tmp_path.iterdir()) in (
        [""],
        ["", "-shm", "-wal"],
    )


def test_of_two_that_make_the_file_the_first_ones_stays(ledger):
    key = put(ledger, request(), LLMResponse(("a",)))
    ledger.close()
    ledger_file._create(ledger.path)  # as a process would that looked for the file a moment before
    assert put(Ledger(ledger.path), request(), LLMResponse(("b",))) == key
    assert Ledger(ledger.path).get_many([key])[key].texts == ("a",)
    assert not list(ledger.path.parent.glob("*.new*"))


@pytest.mark.parametrize("where", ["identity", "question", "reply"])
def test_the_value_of_a_secret_is_refused_and_stands_nowhere(ledger, tmp_path, monkeypatch, where):
    put(ledger, request("before"), LLMResponse(("fine",)))
    monkeypatch.setenv("SHOP_API_KEY", SECRET)
    texts = {
        name: f"begin {SECRET} end" if name == where else "fine" for name in ("identity", "question", "reply")
    }
    with pytest.raises(LLMRequestError, match="SHOP_API_KEY") as told:
        put(
            ledger,
            request(texts["question"]),
            LLMResponse((texts["reply"],)),
            IDENTITY | {"url": texts["identity"]},
        )
    assert SECRET not in str(told.value)
    ledger.export(tmp_path / "out.jsonl")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"ledger.sqlite", "ledger.sqlite-wal", "out.jsonl"} <= {path.name for path in files}
    for path in files:
        assert b"5ecret" not in path.read_bytes(), path
        assert b"fine" in path.read_bytes() or not path.name.endswith(("-wal", "jsonl"))


def test_what_is_short_or_named_otherwise_is_no_secret(ledger, monkeypatch):
    monkeypatch.setenv("SORT_KEY", "title")
    monkeypatch.setenv("FAVOURITE_FILM", "Casablanca")
    key = put(ledger, request("title Casablanca"), LLMResponse(("title Casablanca",)))
    assert key in ledger.get_many([key])


def test_an_export_says_what_was_asked_and_proves_itself_by_hand(ledger, tmp_path):
    key = put(ledger, request(), LLMResponse(("hi",), (), 3, 1))
    ledger.export(tmp_path / "out.jsonl")
    (line,) = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    data = json.loads(line)
    asked = {
        "messages": [{"content": "hello", "role": "user"}],
        "prompt": "greet@1",
        "n": 1,
        "temperature": 0.0,
    }
    assert data["question"] == asked | {"max_tokens": 256, "seed": 0}
    assert (data["reply"], data["prompt_tokens"], data["completion_tokens"]) == ({"texts": ["hi"]}, 3, 1)
    proof = json.dumps([data["identity"], data["question"]], sort_keys=True, ensure_ascii=False)
    assert data["key"] == key == hashlib.sha256(proof.encode()).hexdigest()


def test_an_export_of_some_keys_has_these_and_no_others(ledger, tmp_path):
    keys = [put(ledger, request(str(n)), LLMResponse((str(n),))) for n in range(3)]
    assert ledger.export(tmp_path / "out.jsonl", [keys[2], keys[0], keys[2]]) == 2
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["key"] for line in lines] == sorted([keys[0], keys[2]])
    with pytest.raises(RecloomError, match="lacks 1 of the 2"):
        ledger.export(tmp_path / "more.jsonl", [keys[0], "absent"])
    assert not (tmp_path / "more.jsonl").exists()


def test_an_import_twice_is_as_once(ledger, tmp_path):
    for n in range(700):
        put(ledger, request(str(n)), LLMResponse((str(n),)))
    ledger.export(tmp_path / "out.jsonl")
    other = Ledger(tmp_path / "other.sqlite")
    assert [other.load(tmp_path / "out.jsonl") for _ in range(2)] == [(700, 0), (0, 700)]
    other.export(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


TAMPERED = {
    "question": (
        lambda d: d["question"].update(prompt="other@1"),
        "not the sha256 of the identity and request",
    ),
    "identity": (
        lambda d: d["identity"].update(model="better"),
        "not the sha256 of the identity and request",
    ),
    "reply": (lambda d: d["reply"].update(texts=["bought"]), "sha256 is not that of the line"),
    "tokens": (lambda d: d.update(prompt_tokens=0), "sha256 is not that of the line"),
    "date": (lambda d: d.update(asked_at="2001-01-01T00:00:00Z"), "sha256 is not that of the line"),
    "type": (lambda d: d.update(prompt_tokens=True), "prompt_tokens must be of type int"),
    "missing": (lambda d: d.pop("reply"), "expected an object with the keys key"),
    "extra": (lambda d: d.update(more=1), "expected an object with the keys key"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_line_that_was_changed_is_refused_with_file_and_line(ledger, tmp_path, how):
    for n in range(3):
        put(ledger, request(str(n)), LLMResponse((str(n),), (), 3, 4))
    path = tmp_path / "out.jsonl"
    ledger.export(path)
    lines = path.read_text("utf-8").splitlines()
    data = json.loads(lines[1])
    change, said = TAMPERED[how]
    change(data)
    path.write_text("\n".join([lines[0], json.dumps(data), lines[2]]), "utf-8")
    other = Ledger(tmp_path / "other.sqlite")
    with pytest.raises(RecloomError, match=f"out.jsonl, line 2: .*{said}"):
        other.load(path)
    assert other.totals() == []


@pytest.mark.parametrize("line", [b"", b"[1]", b"\xff\xfe", b'{"key": ', b"[" * 100_000], ids=str)
def test_what_is_no_line_is_refused(ledger, tmp_path, line):
    (tmp_path / "in.jsonl").write_bytes(line + b"\n")
    with pytest.raises(RecloomError, match=r"in.jsonl, line 1: expected a JSON object, found"):
        ledger.load(tmp_path / "in.jsonl")


def test_a_secret_is_not_imported_either(ledger, tmp_path, monkeypatch):
    put(ledger, request("ordinary"), LLMResponse(("a",)))
    put(ledger, request("holds sesame-open"), LLMResponse(("a",)))
    ledger.export(tmp_path / "out.jsonl")
    monkeypatch.setenv("DOOR_SECRET", "sesame-open")
    other = Ledger(tmp_path / "other.sqlite")
    with pytest.raises(RecloomError, match=r"out.jsonl, line \d, holds the value .* DOOR_SECRET"):
        other.load(tmp_path / "out.jsonl")
    assert other.totals() == []


def broken(tmp_path: Path, how: str) -> Path:
    path = tmp_path / "some.sqlite"
    if how == "text":
        path.write_text("user,item\n" * 1000)
    elif how == "other database":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE replies (key TEXT)")
    elif how == "empty":
        path.touch()
    elif how == "folder":
        path.mkdir()
    else:
        whole = Ledger(path)
        for n in range(30):
            put(whole, request(str(n)), LLMResponse(("x" * 2000,)))
        whole.close()
        if how == "newer":
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA user_version = 2")
        if how.startswith("cut"):
            missing = {"cut": 10_000, "cut by pages": 8192, "cut in the last page": 100}[how]
            os.truncate(path, path.stat().st_size - missing)
    return path


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("text", "is not a ledger"),
        ("other database", "is not a ledger"),
        ("empty", "is not a ledger"),
        ("folder", "cannot be opened|is no file"),
        ("newer", "format 2, and this Recloom reads formats up to 1.*Update"),
        ("cut", "is damaged.*recloom llm import"),
        ("cut by pages", "is damaged.*recloom llm import"),
        ("cut in the last page", "is damaged.*recloom llm import"),
    ],
)
def test_a_file_that_is_no_ledger_is_named(tmp_path, how, said, offline):
    path = broken(tmp_path, how)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(RecloomError, match=f"some.sqlite .*({said})"):
        Ledger(path, offline=offline)
    assert not path.is_file() or path.read_bytes() == before


def test_a_damaged_response_is_reported_as_such(ledger):
    key = put(ledger, request(), LLMResponse(("a",)))
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE replies SET reply = substr(reply, 1, 9)")
    with pytest.raises(RecloomError, match="is damaged"):
        ledger.get_many([key])


def test_a_folder_that_takes_no_file_is_named():
    with pytest.raises(RecloomError, match=r"/proc/.*ledger.sqlite cannot be opened or written"):
        Ledger("/proc/self/ledger.sqlite")


def test_offline_a_ledger_is_read_and_never_made_or_written(ledger, tmp_path):
    key = put(ledger, request(), LLMResponse(("a",)))
    held = Ledger(ledger.path, offline=True)
    assert held.get_many([key])[key].texts == ("a",)
    with pytest.raises(RecloomError, match="opened offline"):
        put(held, request("b"), LLMResponse(("b",)))
    with pytest.raises(
        RecloomError, match=r"there is no ledger at .*absent.sqlite.*one is made by the first command"
    ):
        Ledger(tmp_path / "absent.sqlite", offline=True)
    assert not (tmp_path / "absent.sqlite").exists()


def test_offline_reads_where_sqlite_may_not_put_its_files(ledger, monkeypatch):
    key = put(ledger, request(), LLMResponse(("a",)))
    ledger.close()
    connect = sqlite3.connect

    def read_only_folder(address, *rest, **more):
        if "immutable=1" not in address:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(address, *rest, **more)

    monkeypatch.setattr(sqlite3, "connect", read_only_folder)
    assert Ledger(ledger.path, offline=True).get_many([key])[key].texts == ("a",)
    with pytest.raises(RecloomError, match="cannot be opened or written"):
        Ledger(ledger.path)
    ledger.path.with_name("ledger.sqlite-wal").write_bytes(b"not yet in the file")
    with pytest.raises(RecloomError, match="cannot be opened"):
        Ledger(ledger.path, offline=True)


def test_the_default_is_named_by_the_environment(monkeypatch):
    monkeypatch.delenv("RECLOOM_LEDGER", raising=False)
    assert ledger_path() == Path("llm-ledger.sqlite")
    monkeypatch.setenv("RECLOOM_LEDGER", "elsewhere/l.sqlite")
    assert ledger_path() == Path("elsewhere/l.sqlite")
    assert ledger_path(Path("given")) == Path("given")


def test_the_commands_show_export_and_import(ledger, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECLOOM_LEDGER", str(ledger.path))
    keys = [put(ledger, request(str(n)), LLMResponse(("a",), (), 1200, 30)) for n in range(2)]
    cli.main(["llm", "show", "--json"])
    (total,) = json.loads(capsys.readouterr().out)
    assert (total["model"], total["responses"], total["prompt_tokens"]) == ("Toy toy-1", 2, 2400)
    cli.main(["llm", "show"])
    assert "2,400" in capsys.readouterr().out
    (tmp_path / "keys.txt").write_text(keys[1] + "\n")
    cli.main(["llm", "export", "out.jsonl", "--keys", "keys.txt"])
    assert capsys.readouterr().out == "1 responses written to out.jsonl\n"
    with pytest.raises(SystemExit):
        cli.main(["llm", "export", "out.jsonl"])
    assert "out.jsonl exists" in capsys.readouterr().err
    cli.main(["llm", "import", "out.jsonl", "--ledger", "new.sqlite"])
    assert capsys.readouterr().out == "1 responses are new in new.sqlite, 0 were held already\n"
    with pytest.raises(SystemExit):
        cli.main(["llm", "import", "absent.jsonl", "--ledger", "none.sqlite"])
    assert "absent.jsonl cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "none.sqlite").exists()


def test_an_empty_file_is_told_from_other_files(tmp_path):
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(RecloomError, match=r"is not a ledger: it is empty\. Remove it"):
        Ledger(tmp_path / "empty.sqlite")
