"""What is too large, too slow, too much or without a token is answered, and costs nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from .conftest import Running

TOKEN = "0123456789abcdef-not-a-word"


@pytest.fixture(scope="module")
def strict(serve_at, titled):
    """A server with a token, one place, and little patience."""
    words = (titled["first"], "--token_env", "TOKEN_OF_TEST", "--timeout", "1", "--concurrency", "1")
    return serve_at(*words, "--max_body", "10000", TOKEN_OF_TEST=TOKEN)


def raw(server, *parts: bytes, pause: float = 0.0, wait: float = 10.0) -> bytes:
    """What comes back on one connection for these bytes, until the server closes it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def post(size: int, *headers: str) -> bytes:
    lines = [
        "POST /recommend HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {size}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


AUTHORIZED = f"Authorization: Bearer {TOKEN}"


def test_a_body_that_says_it_is_large_is_refused_before_it_comes(server):
    begun = time.perf_counter()
    found = raw(server, post(100_000_000), wait=10)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b"expected a body of 1,000,000 bytes at most, found 100,000,000" in found
    assert b"connection: close" in found.lower()
    assert time.perf_counter() - begun < 5


def test_a_large_body_that_does_not_say_so_is_refused_as_it_comes(server):
    def pieces():
        for _ in range(400):
            yield b" " * 100_000

    answer = httpx.post(server.url + "/recommend", content=pieces(), timeout=30)
    assert answer.status_code == 413
    assert "found more" in answer.json()["error"]


def test_a_client_that_sends_the_whole_of_it_still_reads_the_answer(server):
    answer = server.post("/recommend", content=b" " * 40_000_000)
    assert answer.status_code == 413


def test_a_client_that_sends_its_body_slowly_is_answered_and_let_go(strict):
    begun = time.perf_counter()
    found = raw(strict, post(100, AUTHORIZED), b'{"history"')
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"not complete after 1 s" in found
    assert 0.9 < time.perf_counter() - begun < 6


def test_a_client_that_never_ends_its_headers_is_let_go(strict):
    begun = time.perf_counter()
    assert raw(strict, b"POST /recommend HTTP/1.1\r\n", b"Host: a\r\n") == b""
    assert raw(strict) == b""
    assert time.perf_counter() - begun < 8


def test_what_is_no_http_gets_a_plain_400(strict):
    assert raw(strict, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_request_of_two_lengths_ends_its_connection(server):
    """What a proxy takes for a part of its body must not be answered as a request of its own."""
    two = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n"
    inner = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found = raw(server, two + b"0\r\n\r\n" + inner, wait=3)
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"found both" in found
    assert found.count(b"HTTP/1.1 ") == 1


def test_without_the_token_every_request_is_refused(strict):
    ask = {"json": {"history": []}}
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
    ):
        answer = strict.post("/recommend", headers=headers, **ask)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
        assert "expected the header Authorization: Bearer TOKEN" in answer.json()["error"]
    for path in ("/v2", "/models", "/titles", "/metrics", "/v2/models/first", "/nowhere"):
        assert strict.get(path).status_code == 401
    for path in ("/", "/docs", "/page/page.js", "/openapi.json", "/v2/health/live", "/v2/health/ready"):
        assert strict.get(path).status_code == 200
    assert strict.post("/recommend", headers={"Authorization": f"bearer {TOKEN}"}, **ask).status_code == 200
    assert TOKEN not in strict.log()
    assert "wrong" not in strict.log()
    assert strict.get("/openapi.json").json()["components"]["securitySchemes"] == {
        "token": {"type": "http", "scheme": "bearer"}
    }


def test_a_name_that_leads_here_from_elsewhere_is_refused(server, serve_at, titled):
    ask, port = {"json": {"history": []}}, server.port
    for host in ("localhost", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "10.1.2.3"):
        assert server.post("/recommend", headers={"Host": host}, **ask).status_code == 200, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[",
    ):
        answer = server.post("/recommend", headers={"Host": host}, **ask)
        assert answer.status_code == 421, host
        assert "expected localhost or an address as Host, found" in answer.json()["error"]
    open_to_all = serve_at(titled["first"], "--anyone")
    assert open_to_all.post("/recommend", headers={"Host": "films.example"}, **ask).status_code == 200


def test_a_page_of_another_site_is_refused(server):
    load = "/v2/repository/models/first/load"
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        answer = server.post(load, headers={"Origin": origin, "Content-Type": "text/plain"})
        assert answer.status_code == 403, origin
        assert "expected no Origin, or one of this machine" in answer.json()["error"]
    for origin in (server.url, "http://localhost:3000"):
        assert server.post("/recommend", json={"history": []}, headers={"Origin": origin}).status_code == 200


@pytest.mark.parametrize(("rows", "wide", "told"), [
    (1_100, 100, "1100 requests in one; expected 1024 at most"),
    (1_000, 20_000, "history has 20,000,000 places with its padding; expected 1,048,576 at most"),
    (66_000, 1, "65536 items"),
])  # fmt: skip
def test_a_small_body_cannot_ask_for_a_large_table(server, rows, wide, told):
    body = "[" + '{"history":[]},' * (rows - 1) + '{"history":[' + "1," * (wide - 1) + "1]}]"
    begun = time.perf_counter()
    answer = server.post("/recommend", content=body)
    assert answer.status_code in (400, 413)
    assert told in answer.json()["error"]
    assert time.perf_counter() - begun < 4


def test_idle_connections_beyond_the_open_files_of_the_process_do_not_stop_it(titled, tmp_path):
    command = 'ulimit -n 600; exec "$0" -m recloom.cli.main serve "$1" --port 0 --timeout 30'
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            ["bash", "-c", command, sys.executable, str(titled["first"])],
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    server = Running(process, process.stdout, tmp_path / "errors")
    server.said.append(process.stdout.readline().rstrip("\n"))
    kept = httpx.Client(base_url=server.url, timeout=10)
    assert kept.get("/v2/health/live").status_code == 200
    idle = []
    for _ in range(12):  # fewer at a time than may wait, and often enough for the kept connection to stay
        idle += [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(75)]
        assert kept.get("/v2/health/live").status_code == 200
    kept.close()
    for one in idle:
        one.close()
    assert server.end() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    assert {line["event"] for line in lines} == {"request"}


def test_with_a_token_any_name_will_do(strict):
    assert '-H "Authorization: Bearer $TOKEN_OF_TEST"' in strict.said[-1]
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "films.example"}
    assert strict.post("/recommend", json={"history": []}, headers=headers).status_code == 200


def test_beyond_the_concurrency_requests_get_429_but_health_answers(strict):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    slow = threading.Thread(target=raw, args=(strict, post(100, AUTHORIZED), b"{"))
    slow.start()
    time.sleep(0.4)
    answer = strict.post("/recommend", json={"history": []}, headers=headers)
    assert strict.get("/v2/health/live").status_code == 200
    slow.join()
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert "1 requests are in work, the most at a time" in answer.json()["error"]
    assert strict.post("/recommend", json={"history": []}, headers=headers).status_code == 200


def test_an_unknown_path_or_method_is_named(server):
    answer = server.get("/nowhere%1b[31m")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": "there is nothing at '/nowhere\\x1b[31m'; /docs lists what there is"},
    )
    answer = server.get("/recommend")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert "GET" in answer.json()["error"]


def test_an_unexpected_error_shows_an_id_that_the_log_has_and_nothing_else():
    import asyncio
    import logging

    from recloom_onnx.server import observation
    from recloom_onnx.server.app import application
    from recloom_onnx.server.models import Models
    from recloom_onnx.server.observation import Metrics
    from recloom_onnx.server.settings import Settings

    models, metrics, lines = Models([], Settings()), Metrics(), []
    models.find = lambda *words: 1 / 0
    app = application(models, Settings(), metrics)

    class Kept(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    kept, level = Kept(), observation.log.level
    observation.log.addHandler(kept)
    observation.log.setLevel(logging.INFO)

    async def go():
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(
                "/recommend", json={"history": ["secret-id"]}, headers={"x-request-id": "abcdefgh-1"}
            )

    try:
        answer = asyncio.run(go())
    finally:
        observation.log.removeHandler(kept)
        observation.log.setLevel(level)
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed; its log has the reason under id abcdefgh-1"}
    assert answer.headers["x-request-id"] == "abcdefgh-1"
    error, request = map(json.loads, lines)
    assert (error["event"], error["id"], error["error"]) == ("error", "abcdefgh-1", "ZeroDivisionError")
    assert "Traceback" in error["trace"]
    assert (request["event"], request["id"], request["status"]) == ("request", "abcdefgh-1", 500)
    assert "secret-id" not in "".join(lines)
    assert b'recloom_requests_total{method="POST",route="/recommend",status="500"} 1.0' in metrics.text(
        models
    )


def test_the_log_has_one_line_a_request_without_user_ids_and_control_characters(server):
    server.recommend(history=["m01"], user="somebody in particular")
    server.get("/titles?q=what somebody looks for")
    server.get("/a%1b[31m%0aline", headers={"x-request-id": "bad id\x01"})
    until = time.monotonic() + 5
    while "line" not in (text := server.log()) and time.monotonic() < until:
        time.sleep(0.01)  # a line is written after its answer
    assert "somebody" not in text
    every = [json.loads(line) for line in text.splitlines()]
    lines = [
        line for line in every if line["event"] == "request"
    ]  # another test may have made the library warn
    fields = {"time", "event", "id", "method", "path", "status", "ms"}
    assert [line for line in lines if set(line) != fields] == []
    assert lines[-1]["path"] == "/a\x1b[31m\nline"
    assert "\x1b" not in text
    assert len({line["id"] for line in lines}) == len(lines)


def test_metrics_count_what_happened(server):
    server.recommend(history=["m01"])
    text = server.get("/metrics").text
    for part in (
        'recloom_requests_total{method="POST",route="/recommend",status="200"}',
        'recloom_request_seconds_bucket{le="0.005",route="/recommend"}',
        'recloom_batch_rows_count{model="first",version="1"}',
        'recloom_batch_requests_count{model="first",version="1"}',
        'recloom_waiting_rows{model="first",version="1"} 0.0',
        'recloom_model_loads_total{model="first",outcome="ok"}',
        "recloom_requests_in_work 1.0",
        "process_resident_memory_bytes",
    ):
        assert part in text, part
    assert server.get("/nowhere").status_code == 404
    assert httpx.request("BREW", server.url + "/").status_code == 405
    text = server.get("/metrics").text
    assert 'method="other"' in text
    assert "nowhere" not in text
