"""Metrics for Prometheus, and a log of one JSON line for each request."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .models import Models

METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
PASSED_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")
"""An id that a proxy gave a request; another is not taken over."""
CLIENT_CLOSED = 499
"""Status in log and metrics of a request whose client disconnected before its answer."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
MAX_PATH = 200
"""Characters of a path in the log."""
log = logging.getLogger("recloom.serve")
log.addHandler(logging.NullHandler())  # without a handler, warnings would go to the error stream


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "recloom_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "recloom_request_seconds",
            "From request to answer.",
            ["route"],
            registry=self.registry,
            buckets=SECONDS,
        )
        self.in_work = Gauge("recloom_requests_in_work", "Requests being answered.", registry=self.registry)
        self.rows = Histogram(
            "recloom_batch_rows",
            "Rows that ran together.",
            ["model", "version"],
            registry=self.registry,
            buckets=ROWS,
        )
        self.batched = Histogram(
            "recloom_batch_requests", "Requests that ran together.", ["model", "version"],
            registry=self.registry, buckets=ROWS,
        )  # fmt: skip
        self.waiting = Gauge(
            "recloom_waiting_rows",
            "Rows that wait for a model.",
            ["model", "version"],
            registry=self.registry,
        )
        self.stages = Counter(
            "recloom_stage_calls", "Calls of server stages.", ["stage", "outcome"], registry=self.registry
        )
        self.stage_seconds = Histogram(
            "recloom_stage_seconds",
            "Time of a call of a stage.",
            ["stage"],
            registry=self.registry,
            buckets=SECONDS,
        )
        self.loads = Counter("recloom_model_loads", "Loads.", ["model", "outcome"], registry=self.registry)

    def batch(self, model: str, version: str, requests: int, rows: int) -> None:
        """Count one batch of a model."""
        self.batched.labels(model, version).observe(requests)
        self.rows.labels(model, version).observe(rows)

    def load(self, model: str, versions: list[str], reason: str) -> None:
        """Count and log one load; `reason`: why it was refused, or ""."""
        self.loads.labels(model, "refused" if reason else "ok").inc()
        if reason:
            log_event("refused", {"model": model, "versions": versions, "reason": reason}, logging.WARNING)
        else:
            log_event("loaded", {"model": model, "versions": versions})

    def stage(self, stage: str, outcome: str, seconds: float) -> None:
        """Count one call of a server stage."""
        self.stages.labels(stage, outcome).inc()
        self.stage_seconds.labels(stage).observe(seconds)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self, models: Models) -> bytes:
        """The text that Prometheus reads."""
        self.waiting.clear()
        for served in models:
            self.waiting.labels(served.name, served.version).set(served.batcher.waiting)
        return generate_latest(self.registry)


class RequestObserver:
    """Outermost ASGI middleware: gives each request an id, counts it and logs it.

    An unhandled exception ends here: the client gets a 500, the log the traceback.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), CLIENT_CLOSED
        identity = scope.setdefault("state", {})["request_id"] = request_id(scope)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identity.encode())]
            await send(message)

        self.metrics.in_work.inc()
        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            fault = {"id": identity, "error": type(error).__name__, "trace": traceback.format_exc()}
            log_event("error", fault, logging.ERROR)
            if status == CLIENT_CLOSED:
                await send_500(watched, identity)
        finally:
            self.metrics.in_work.dec()
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(route, scope["method"], status, seconds)
            line = {
                "id": identity,
                "method": scope["method"][:16],
                "path": scope["path"][:MAX_PATH],
                "status": status,
                "ms": round(1000 * seconds, 2),
            }
            log_event("request", line)


def request_id(scope: Scope) -> str:
    """The request's `X-Request-Id` where it is well formed, else a new id."""
    came: bytes = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return came.decode() if PASSED_ID.fullmatch(came) else uuid4().hex


def internal_error_body(identity: str) -> bytes:
    """The body of a 500, which holds the id and nothing of the cause."""
    return json.dumps({"error": f"the server failed; its log has the reason under id {identity}"}).encode()


async def send_500(send: Send, identity: str) -> None:
    """Answer with 500."""
    body = internal_error_body(identity)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def log_event(event: str, fields: Mapping[str, Any], level: int = logging.INFO) -> None:
    """One line of JSON in the log, in ASCII, so that nothing in it can steer a terminal or begin a new line."""
    if log.isEnabledFor(level):
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        log.log(level, json.dumps({"time": now, "event": event, **fields}))


class _Lines(logging.Handler):
    """Records of libraries as lines of JSON, ours as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == log.name:
            print(record.getMessage(), file=sys.stderr, flush=True)
        else:
            log_event(
                "library", {"logger": record.name, "message": record.getMessage()[:500]}, record.levelno
            )


def log_to_stderr(requests: bool) -> None:
    """Send the log, and the warnings of the HTTP library, to the error stream; with or without requests."""
    log.propagate = False
    log.handlers = [_Lines()]
    log.setLevel(logging.INFO if requests else logging.WARNING)
    for name in ("uvicorn.error", "asyncio"):
        library = logging.getLogger(name)
        library.propagate, library.handlers = False, [_Lines()]
        library.setLevel(logging.WARNING)
