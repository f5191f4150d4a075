"""What the server does about faults: loads and an end under requests, broken files, wrong and slow clients, and memory.

    python benchmarks/serve_faults.py [--seconds 120] [--connections 32] [--bodies 10000] [--requests 100000]
                                      [--steps memory token ...]

Targets: every accepted request is answered, no status of 500, no traceback to a client, and memory that is flat over
the requests (at most 5 % more at the end than after a tenth). Malformed bodies are made twice: valid ones that are
damaged at random, and by schemathesis from our OpenAPI document. Writes benchmarks/serve_faults.json after every
step; with --steps, what it holds of the others stays.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from serve_process import artefact, circumstances, clients, report, served

ITEMS = 10_000
LARGE = 100_000_000
FLAT = 1.05
PATIENCE = 3
"""Seconds that the server gives a slow client here."""
QUIET = "--no-log"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--steps", nargs="+", metavar="STEP", help="by default all")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    load, found = (
        os.getloadavg(),
        json.loads(given.out.read_text())["results"] if given.steps and given.out.exists() else {},
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = artefact(folder / "model.onnx", ITEMS)
        steps = {
            "reload under load": lambda: reload_under_load(first, given),
            "SIGTERM under load": lambda: end_under_load(first, given),
            "broken files": lambda: broken_files(first, folder / "broken"),
            "large bodies": lambda: large_bodies(first),
            "malformed bodies": lambda: malformed(first, given.bodies),
            "schemathesis": lambda: schemathesis(first, given.bodies, folder),
            "slow clients": lambda: slow_clients(first),
            "token": lambda: token(first),
            "memory": lambda: memory(first, given),
        }
        for step in given.steps or steps:
            found[step] = steps[step]()
            print(step, json.dumps(found[step]), flush=True)
            settings = {name: value for name, value in vars(given).items() if name not in ("out", "steps")}
            record = {"results": found, **circumstances(load, settings)}
            given.out.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def reload_under_load(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The model is loaded anew every second, by request and by SIGHUP in turn."""
    with served(path, QUIET) as server:
        options = clients(server.port, ITEMS, connections=given.connections, seconds=given.seconds)
        times = 0
        while options.poll() is None:
            if times % 2:
                server.process.send_signal(signal.SIGHUP)
            else:
                server.post("/v2/repository/models/model/load")
            times += 1
            time.sleep(1)
        loads = server.metric('recloom_model_loads_total{model="model",outcome="ok"}'.replace("{", r"\{"))
        return {"loads": int(loads), **report(options)}


def end_under_load(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """SIGTERM while all ask: what the log says was answered is what clients have got."""
    with served(path) as server:
        options = clients(server.port, ITEMS, connections=given.connections, seconds=given.seconds)
        time.sleep(min(5.0, given.seconds / 2))
        begun = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(60)
        spent, seen = time.perf_counter() - begun, report(options)
        answered = sum('"event": "request"' in line for line in server.log.read_text().splitlines())
        lost = answered - sum(seen["statuses"].values())
        return {"exit": status, "seconds_to_end": round(spent, 2), "answered": answered, "lost": lost, **seen}


def broken_files(path: Path, folder: Path) -> dict[str, Any]:
    """Loads and starts with a model cut short and a manifest tampered with."""
    folder.mkdir()
    for file in path.parent.glob("model.*"):
        shutil.copy(file, folder)
    copy, found = folder / path.name, {}
    manifest = copy.with_suffix(".json")
    whole, text = copy.read_bytes(), manifest.read_text()
    harms = {
        "cut short": lambda: copy.write_bytes(whole[: len(whole) // 2]),
        "tampered": lambda: manifest.write_text(text.replace('"verified": true', '"verified": false')),
    }
    with served(copy, QUIET) as server:
        for name, harm in harms.items():
            harm()
            loaded, _ = server.post("/v2/repository/models/model/load")
            still, _ = server.post("/recommend", b'{"history": ["i1"]}')
            command = [sys.executable, "-m", "recloom.cli.main", "serve", str(copy), "--port", "0"]
            start = subprocess.run(command, capture_output=True, text=True, timeout=60)
            found[name] = {
                "load": loaded, "old_serves": still == 200, "start": start.returncode,
                "traceback": "Traceback" in start.stderr,
            }  # fmt: skip
            copy.write_bytes(whole)
            manifest.write_text(text)
    return found


def large_bodies(path: Path) -> dict[str, Any]:
    """A body of 100 MB, with its length and in pieces without it."""
    found = {}
    with served(path, QUIET) as server:
        before = server.megabytes()
        for name, chunked in (("with its length", False), ("in pieces", True)):
            begun, connection = time.perf_counter(), HTTPConnection("127.0.0.1", server.port, timeout=60)
            pieces = (b" " * 1_000_000 for _ in range(LARGE // 1_000_000))
            headers = {} if chunked else {"Content-Length": str(LARGE)}
            try:
                connection.request("POST", "/recommend", pieces, headers, encode_chunked=chunked)
                status: int | str = connection.getresponse().status
            except OSError as error:
                status = type(error).__name__
            found[name] = {"status": status, "seconds": round(time.perf_counter() - begun, 2)}
        return {**found, "megabytes_more": round(server.megabytes() - before, 1)}


def malformed(path: Path, count: int) -> dict[str, Any]:
    """Valid bodies with bytes changed, taken out, doubled or cut, on one connection."""
    draw, statuses, traces = random.Random(0), Counter[int](), 0
    valid = [
        ("/recommend", b'{"history": ["i1", "i2"], "k": 5, "exclude": ["i3"], "allow": null, "user": "u"}'),
        ("/recommend", b'[{"history": []}, {"history": [1, 2], "history_times": [3, 4], "request_time": 5}]'),
        (
            "/v2/models/model/infer",
            b'{"id": "a", "inputs": [{"name": "history", "shape": [1, 2], "datatype": "BYTES", "data": ["i1", "i2"]},'
            b'{"name": "k", "shape": [1], "datatype": "INT64", "data": [5]}], "outputs": [{"name": "score"}]}',
        ),
    ]
    with served(path, QUIET) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        for _ in range(count):
            target, body = draw.choice(valid)
            connection.request("POST", target, damaged(body, draw))
            answer = connection.getresponse()
            traces += b"Traceback" in answer.read()
            statuses[answer.status] += 1
        alive = server.get("/v2/health/ready")[0] == 200
    return {"bodies": count, "statuses": statuses, "tracebacks": traces, "alive": alive}


def damaged(body: bytes, draw: random.Random) -> bytes:
    """One to four random injuries."""
    odd = (
        b"\x00",
        b"\xff",
        b"NaN",
        b"[" * 300,
        b'"\\ud800"',
        b"1e999",
        b"9" * 400,
        b"null",
        b"{}",
        b"-",
        b'"',
    )
    found = body
    for _ in range(draw.randint(1, 4)):
        at, end = sorted(draw.randrange(len(found) + 1) for _ in range(2))
        end = min(end, at + 8)
        head, tail = found[:at], found[end:]
        found = draw.choice((head + draw.choice(odd) + tail, head + tail, found[:end] + found[at:], head))
    return found


def schemathesis(path: Path, count: int, folder: Path) -> dict[str, Any]:
    """Bodies that break our OpenAPI document, until there were as many; the model asked for exists."""
    sent, seed, codes = 0.0, 0, []
    (folder / "schemathesis.toml").write_text('[parameters]\n"path.model" = "model"\n"path.version" = "1"\n')
    posts = r'recloom_requests_total\{method="POST"'
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with served(path, QUIET) as server:
        while sent < count and seed < 20:
            seed += 1
            command = [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                server.url("/openapi.json"),
                "--mode",
                "negative",
            ]
            command += ["--phases", "fuzzing", "--include-path-regex", "recommend|infer", "--checks", checks]
            command += [
                "--max-examples",
                str(-(-count // 3)),
                "--seed",
                str(seed),
                "--generation-database",
                "none",
            ]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            codes.append(done.returncode)
            sent = server.metric(posts)
        failed = server.metric(posts + r'.*status="500"')
        refused = server.metric(posts + r'.*status="4')
        alive = server.get("/v2/health/ready")[0] == 200
    return {
        "bodies": int(sent),
        "refused": int(refused),
        "failed": int(failed),
        "exits": codes,
        "alive": alive,
    }


def slow_clients(path: Path) -> dict[str, Any]:
    """Headers that never end, a body that comes byte by byte, and nothing at all; others are answered meanwhile."""
    head = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    found: dict[str, Any] = {}
    with served(path, QUIET, "--timeout", PATIENCE) as server:
        for name, first in (
            ("endless headers", b"POST / HTTP/1.1\r\n"),
            ("slow body", head),
            ("silence", b""),
        ):
            begun = time.perf_counter()
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.sendall(first)
                other = server.post("/recommend", b'{"history": ["i1"]}')[0]
                answer = dripped(connection)
            seconds = round(time.perf_counter() - begun, 2)
            found[name] = {"answer": answer, "seconds": seconds, "others": other}
    return found


def dripped(connection: socket.socket) -> str:
    """The first line that comes back while a byte is sent now and then."""
    connection.settimeout(0.3)
    for _ in range(100):
        try:
            connection.sendall(b"x")
            return connection.recv(1000).decode().partition("\r")[0]
        except TimeoutError:
            continue
        except OSError:
            return ""
    return "never"


def token(path: Path) -> dict[str, Any]:
    """Requests without the token, and with another one."""
    with served(path, "--token_env", "BENCH_TOKEN", token="0123456789abcdef") as server:
        bare = server.post("/recommend", b'{"history": []}')[0]
        shown = "0123456789abcdef" in server.log.read_text()
        return {"without": bare, "metrics": server.get("/metrics")[0], "token_in_log": shown}


def memory(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Resident memory after each tenth of many requests."""
    part, sizes, seen = given.requests // 10, [], []
    with served(path, QUIET) as server:
        for _ in range(10):
            options = clients(server.port, ITEMS, connections=given.connections, seconds=10**6, requests=part)
            seen.append(report(options))
            sizes.append(server.megabytes())
    answered = sum(row["ok"] for row in seen)
    failures = sum(sum(row["failures"].values()) for row in seen)
    return {
        "requests": answered, "failures": failures, "megabytes": sizes, "flat": max(sizes[1:]) <= FLAT * sizes[0],
        "growth": round(sizes[-1] / sizes[0], 4),
    }  # fmt: skip


if __name__ == "__main__":
    main()
