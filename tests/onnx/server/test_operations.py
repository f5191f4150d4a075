"""Loads and ends under requests, starts that are refused, and what the server never imports."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from recloom_onnx.artifact.manifest import manifest_path
from recloom_onnx.server import Settings

from .conftest import SERVE

BODY = json.dumps({"history": ["m01", "m02"], "k": 3})


def copied(titled, folder, name="first"):
    """Files of an artefact in a folder of their own."""
    for file in titled[name].parent.glob(f"{name}.*"):
        shutil.copy(file, folder / file.name)
    return folder / f"{name}.onnx"


class Clients:
    """Threads that ask on kept connections, until told to stop or turned away."""

    def __init__(self, server, count: int = 4) -> None:
        self.port, self.stop = server.port, threading.Event()
        self.statuses: list[int] = []
        self.failures: list[str] = []
        self.threads = [threading.Thread(target=self.ask) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def ask(self) -> None:
        connection, fresh = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20), True
        while not self.stop.is_set():
            try:
                connection.request("POST", "/recommend", BODY)
                answer = connection.getresponse()
                answer.read()
            except OSError as error:  # refused, or let go before it was accepted
                if not fresh:
                    self.failures.append(repr(error))
                return
            except http.client.HTTPException as error:
                self.failures.append(repr(error))
                return
            self.statuses.append(answer.status)
            fresh = connection.sock is None  # the answer said that the connection ends

    def join(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(20)


def test_a_load_under_requests_loses_none(serve_at, titled, tmp_path):
    path = copied(titled, tmp_path)
    server = serve_at(f"film={path}")
    before = server.recommend(history=["m01", "m02"], k=3).json()
    clients = Clients(server)
    time.sleep(0.2)
    for name in ("second", "first", "second"):
        for old in titled[name].parent.glob(f"{name}.*"):
            new = tmp_path / old.name.replace(name, "next")
            shutil.copy(old, new)
        text = manifest_path(titled[name]).read_text().replace(f'"{name}.', '"first.')
        (tmp_path / "next.json").write_text(text)
        for part in ("onnx", "items.parquet", "json"):
            os.replace(tmp_path / f"next.{part}", tmp_path / f"first.{part}")
        answer = server.post("/v2/repository/models/film/load")
        assert answer.json() == {"name": "film", "versions": ["1"]}, answer.text
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    clients.join()
    assert clients.failures == []
    assert len(clients.statuses) > 20
    assert set(clients.statuses) == {200}
    assert server.recommend(history=["m01", "m02"], k=3).json() != before
    assert server.end() == 0
    assert '"event": "loaded", "model": "film", "versions": ["1"]' in server.log()


def test_what_is_refused_at_a_load_leaves_the_old_one_serving(serve_at, titled, tmp_path):
    path = copied(titled, tmp_path)
    server = serve_at(path)
    before = server.recommend(history=["m01"]).json()
    whole, manifest = path.read_bytes(), manifest_path(path).read_text()
    path.write_bytes(whole[: len(whole) // 2])
    answer = server.post("/v2/repository/models/first/load")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("model first stays as it was, because the new one was refused: ")
    assert "is not the file that was exported: expected sha256" in answer.json()["error"]
    (line,) = [one for one in map(json.loads, server.log().splitlines()) if one["event"] == "refused"]
    assert "is not the file that was exported" in line["reason"]
    path.write_bytes(whole)
    manifest_path(path).write_text(manifest.replace('"verified": true', '"verified": false'))
    server.process.send_signal(signal.SIGHUP)
    for _ in range(100):
        time.sleep(0.05)
        if server.log().count('"event": "refused"') == 2:
            break
    assert "never compared" in server.log()
    assert server.recommend(history=["m01"]).json() == before
    assert server.get("/v2/health/ready").status_code == 200
    assert 'recloom_model_loads_total{model="first",outcome="refused"} 2.0' in server.get("/metrics").text
    assert server.post("/v2/repository/models/third/load").status_code == 404
    assert server.end() == 0


@pytest.mark.parametrize("harm", ["cut short", "tampered with"])
def test_a_start_is_refused(titled, tmp_path, warm_server, harm):
    path = copied(titled, tmp_path)
    if harm == "cut short":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        manifest = manifest_path(path)
        manifest.write_text(manifest.read_text().replace('"num_items": 40', '"num_items": 40, "extra": 1'))
    done = warm_server.run(*SERVE, str(path), "--port", "0", timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "serving" not in done.stdout
    expected = "is not the file that was exported" if harm == "cut short" else "is not a manifest of format"
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_under_requests_answers_all_that_was_accepted(serve_at, titled, number):
    server = serve_at(titled["first"])
    clients = Clients(server, 6)
    time.sleep(0.8)
    assert server.end(number) == 0
    clients.join()
    assert clients.failures == []
    assert set(clients.statuses) == {200}
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert len([line for line in lines if line["event"] == "request"]) == len(clients.statuses) > 20
    assert server.said[-1] == "stopped; every accepted request was answered"


def test_a_server_that_shuts_down_is_not_ready_and_refuses_new_connections(serve_at, titled):
    server = serve_at(titled["first"])
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    kept.request("GET", "/v2/health/ready")
    answer = kept.getresponse()
    assert (answer.status, answer.read()) == (200, b'{"ready":true}')
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    kept.request("GET", "/v2/health/ready")
    answer = kept.getresponse()
    assert answer.status == 503
    assert answer.getheader("connection") == "close"
    assert b"not ready" in answer.read()
    another = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with pytest.raises(ConnectionRefusedError):
        another.request("GET", "/v2/health/live")
    assert server.end() == 0


def test_the_server_needs_no_torch(titled):
    code = (
        "import asyncio, os, signal, sys, threading, httpx\n"
        "from recloom_onnx.server import command, serving\n"
        "from recloom_onnx.server.settings import Settings\n"
        "found = []\n"
        "def welcome(models, settings, place, stages):\n"
        "    def ask():\n"
        "        found.append(httpx.post(place + '/recommend', json={'history': ['m01']}).status_code)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    threading.Thread(target=ask).start()\n"
        "    return 'up'\n"
        "command.welcome = welcome\n"
        "command.run([sys.argv[1]], Settings(port=0))\n"
        "assert found == [200], found\n"
        "heavy = {'torch', 'lightning', 'onnx', 'onnx_ir', 'onnxscript', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(titled["first"])], text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["up", "stopped; every accepted request was answered"]


def test_no_answer_waits_for_the_acknowledgement_of_its_first_half(server):
    connection, spent = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20), []
    for _ in range(30):
        begun = time.perf_counter()
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        spent.append(time.perf_counter() - begun)
    connection.close()
    assert min(spent) < 0.03, "Nagle's algorithm and delayed acknowledgements make it 0.04 s"


def test_signals_are_heard_where_there_is_no_sighup(monkeypatch):
    from recloom_onnx.server.serving import Server

    async def heard():
        server = Server(lambda: None, SimpleNamespace(draining=False), Settings(), None)
        with server.capture_signals():
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0.01)
            assert (server.should_exit, server.force_exit) == (True, False)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0.01)
        return server.force_exit

    async def no_handlers(*given):
        raise NotImplementedError  # as the event loop of Windows

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", no_handlers)
    assert asyncio.run(heard())
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
