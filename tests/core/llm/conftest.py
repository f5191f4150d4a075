"""A server of OpenAI's protocol on this machine that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Stub:
    """Answers with the next of `script`, then with what `usual` gives for a body.

    An answer is a JSON object (status 200), a tuple of status, body and maybe headers, DROP or HANG.
    """

    DROP = "close the connection without an answer"
    HANG = "be silent for two seconds"

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.usual: Callable[[dict[str, Any]], Any] = lambda body: self.chat("fine")
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.ports: set[int] = set()
        self.under_way = self.most = 0
        self.latency = 0.0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.server.handle_error = lambda *_: None  # a client that gave up is no news
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    @staticmethod
    def chat(*texts: str, reason: str = "stop", **more: Any) -> dict[str, Any]:
        """A reply with these texts."""
        choices = [
            {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
            for at, text in enumerate(texts)
        ]
        return {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 3}} | more

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _take(self, request: BaseHTTPRequestHandler) -> Any:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.paths.append(request.path)
            self.times.append(time.monotonic())
            self.ports.add(request.client_address[1])
            scripted = self.script.pop(0) if self.script else None
        return self.usual(body) if scripted is None else scripted

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                answer = stub._take(self)
                time.sleep(stub.latency)
                with stub.lock:
                    stub.under_way -= 1
                self.give(answer)

            def give(self, answer: Any) -> None:
                if answer == Stub.HANG:
                    time.sleep(2)
                if answer in (Stub.DROP, Stub.HANG):
                    self.close_connection = True
                    return
                status, body, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (200, answer, {})
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status, headers.get("reason"))
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: Any) -> None:
                pass

        return Handler


@pytest.fixture
def stub():
    """A `Stub`, stopped at the end."""
    server = Stub()
    yield server
    server.stop()
