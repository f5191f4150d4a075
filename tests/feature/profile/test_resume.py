"""Killed in the middle, a run goes on without repeating a call; a key is found in nothing that is left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from recloom.llm.ledger.store import Ledger

SLOW = """
import time
from dataclasses import dataclass
from recloom.llm.fake import Fake

@dataclass(frozen=True)
class Slow(Fake):
    log: str = ""
    pause: float = 0.05
    without_effect = ("log", "pause")

    def generate(self, messages, **options):
        with open(self.log, "a") as file:
            file.write(messages[-1]["content"].replace("\\n", " ") + "\\n")
        time.sleep(self.pause)
        return super().generate(messages, **options)
"""
KEY = "sk-9vQ2mXc81LpTz04RbNw7"


def command(data: Path, *more: str) -> list[str]:
    return ["-m", "recloom.cli.main", "profile", str(data), "--out", "out/items.parquet", *more]


@pytest.fixture
def data(tmp_path, warm_python):
    (tmp_path / "out").mkdir()
    folder = tmp_path / "data"
    made = ["data", "synth", "--like", "movies", "--users", "30", "--items", "60", "--out", "data"]
    assert warm_python.run("-m", "recloom.cli.main", *made, cwd=tmp_path).returncode == 0
    (tmp_path / "slow_model.py").write_text(SLOW)
    return folder


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_kill_9_in_the_middle_and_no_kept_reply_is_asked_for_again(data, tmp_path, warm_python):
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    log = tmp_path / "calls.txt"
    ask = command(data, "--kind", "keywords", "--llm.model", "slow_model.Slow", f"--llm.model.log={log}",
                  "--llm.ledger", "kept.sqlite")  # fmt: skip
    with open(os.devnull, "r+") as nothing:
        first = warm_python.start(*ask, cwd=tmp_path, env=env, stdin=nothing, stdout=nothing, stderr=nothing)
    deadline = time.monotonic() + 120
    while len(calls(log)) < 20 and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not list((tmp_path / "out").iterdir())
    kept = sum(total.responses for total in Ledger(tmp_path / "kept.sqlite", offline=True).totals())
    before = calls(log)
    assert 15 <= kept <= len(before) <= kept + 1 < 60
    done = warm_python.run(*ask, "--llm.model.pause=0", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    after = calls(log)[len(before) :]
    assert len(after) == 60 - kept
    assert len(set(before[:kept]) & set(after)) == 0
    assert len(set(before + after)) == 60
    assert f"60 requests: {kept} from the ledger, {60 - kept} sent" in done.stdout
    assert (tmp_path / "out" / "items.parquet").is_file()


@pytest.mark.parametrize("kind", ["topics", "item"])
def test_a_key_of_the_environment_is_in_no_file_and_no_message(data, tmp_path, kind, warm_python):
    import json
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    seen = []

    class Server(BaseHTTPRequestHandler):
        """Answers well, with an error that repeats the key, or with the key as the answer, in turn."""

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers["Authorization"])
            turn = len(seen) % 3
            text = KEY if turn == 2 else '{"topics": ["comedy"]}'
            body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {}}
            content = json.dumps({"error": f"bad key {KEY}"} if turn == 1 else body).encode()
            self.send_response(400 if turn == 1 else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        ask = command(
            data, "--kind", kind, "--limit", "9", "--llm.model", "OpenAIChat", "--llm.model.model", "small",
            "--llm.model.base_url", f"http://127.0.0.1:{server.server_address[1]}/v1", "--llm.model.retries=0",
            "--llm.ledger", "out/kept.sqlite",
        )  # fmt: skip
        env = os.environ | {"OPENAI_API_KEY": KEY, "RECLOOM_DEBUG": "1"}
        done = warm_python.run(*ask, cwd=tmp_path, env=env)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert done.returncode == 0, done.stderr
    assert set(seen) == {f"Bearer {KEY}"}
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"items.parquet", "items.failures.jsonl", "kept.sqlite"} <= {path.name for path in files}
    for text in (*(path.read_bytes() for path in files), done.stdout.encode(), done.stderr.encode()):
        assert not any(KEY[at : at + 8].encode() in text for at in range(len(KEY) - 7))
