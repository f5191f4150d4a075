"""ASGI middleware for authentication and limits: token, Host, concurrent requests, body size, time.

It reads the body in pieces and within all limits before the application sees the request.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Mapping
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .http_errors import OVERLOADED, RETRY, HttpError, brief
from .models import Models
from .observation import MAX_PATH, log_event
from .settings import Settings

OPEN = frozenset({"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
"""Paths that need no token, as the page's files need none: they show nothing of the models."""
HEALTH = "/v2/health/"
FILES = "/page/"
OWN = re.compile(r"(?:localhost|[0-9]+(?:\.[0-9]+){3}|\[[0-9a-f:.]+\])(?::[0-9]+)?", re.IGNORECASE)
"""`localhost` or an IP address, to which no foreign DNS name can resolve."""
LINGER = 2.0
"""Seconds for which the rest of a refused body is read and dropped, so that the client sees the answer."""
STAGE_SHARE = 0.9
"""Of the time of a request, after which a stage is late; the rest is for sending the answer."""
CLOSE = {"Connection": "close"}


class RequestLimits:
    """Refuses a request that exceeds a limit before any work is done for it."""

    def __init__(self, app: ASGIApp, settings: Settings, models: Models) -> None:
        self.app, self.settings, self.models = app, settings, models
        self.in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.models.draining:
            send = _closing(send)
        answer = _Response(send)
        try:
            self._check_token(scope)
            self._check_name(scope)
            with self._slot(scope):
                await self._within_time(scope, receive, answer)
        except _Disconnected:
            return
        except HttpError as refusal:
            await answer.refuse(refusal)
            await answer.finish(receive)

    def _check_token(self, scope: Scope) -> None:
        token, path = self.settings.token, scope["path"]
        if token is None or path in OPEN or path.startswith(FILES):
            return
        given = _header(scope, b"authorization")
        scheme, _, secret = given.partition(b" ")
        same = hmac.compare_digest(secret.strip(), token.encode())
        if scheme.lower() != b"bearer" or not same:
            found = "another" if given else "none"
            raise HttpError(
                f"expected the header Authorization: Bearer TOKEN with this server's token, found {found}",
                401,
                {"WWW-Authenticate": "Bearer"},
            )

    def _check_name(self, scope: Scope) -> None:
        """Without a token, refuse requests of other sites' pages in a local browser (DNS rebinding)."""
        if self.settings.token or self.settings.anyone:
            return
        host = _header(scope, b"host").decode("latin-1")
        if host and not OWN.fullmatch(host):
            raise HttpError(
                f"expected localhost or an address as Host, found {brief(host)}; a server for other names is started "
                "with --token_env VARIABLE, or with --anyone where something else authenticates clients",
                421,
            )
        origin = _header(scope, b"origin").decode("latin-1")
        if origin and not OWN.fullmatch(origin.partition("://")[2]):
            raise HttpError(
                f"expected no Origin, or one of this machine, found {brief(origin)}; pages of other sites may ask a "
                "server that is started with --token_env VARIABLE, or with --anyone",
                403,
            )

    def _slot(self, scope: Scope) -> _Slot:
        if scope["path"].startswith(HEALTH):
            return _Slot(None)
        if self.in_work >= self.settings.concurrency:
            raise HttpError(
                f"{self.settings.concurrency} requests are in work, the most at a time; try again soon",
                429,
                RETRY,
            )
        return _Slot(self)

    async def _within_time(self, scope: Scope, receive: Receive, answer: _Response) -> None:
        body: bytes | None = None
        try:
            async with asyncio.timeout(self.settings.timeout):
                now = asyncio.get_running_loop().time()  # that of time.monotonic()
                scope.setdefault("state", {})["deadline"] = now + STAGE_SHARE * self.settings.timeout
                body = await self._body(scope, receive)
                answer.body_read = True
                await _while_connected(self.app, scope, body, receive, answer)
        except TimeoutError:
            if body is None:
                raise HttpError(
                    f"the request was not complete after {self.settings.timeout:g} s; send it faster", 408
                ) from None
            if answer.started:  # the client does not read, and headers were sent
                log_event("cut", {"path": scope["path"][:MAX_PATH]})
                raise
            raise HttpError(
                f"no answer within {self.settings.timeout:g} s; try again later", OVERLOADED, RETRY
            ) from None

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self.settings.max_body
        length = _header(scope, b"content-length")
        if length and _header(scope, b"transfer-encoding"):  # a proxy may have read the other one
            raise HttpError("expected Content-Length or Transfer-Encoding, found both; send one of them")
        if length.isdigit() and int(length) > most:
            raise _too_large(f"{int(length):,}", most)
        encoding = _header(scope, b"content-encoding").strip().lower()
        if encoding not in (b"", b"identity"):
            raise HttpError("expected a body without Content-Encoding; send it uncompressed", 415)
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise _too_large("more", most)
            if not message.get("more_body", False):
                return b"".join(parts)


class _Disconnected(Exception):
    """The client disconnected before its request was complete."""


class _Slot:
    """One of the concurrent requests that are allowed; a context."""

    def __init__(self, limits: RequestLimits | None) -> None:
        self.limits = limits

    def __enter__(self) -> None:
        if self.limits:
            self.limits.in_work += 1

    def __exit__(self, *error: object) -> None:
        if self.limits:
            self.limits.in_work -= 1


class _Response:
    """The response to one request, and how much of it was sent."""

    def __init__(self, send: Send) -> None:
        self._send, self.started, self.ended, self._refused = send, False, False, False
        self.body_read = False
        """Whether the body was read to its end."""

    async def __call__(self, message: Message) -> None:
        self.started = True
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def refuse(self, refusal: HttpError) -> None:
        """Send an error but for its end, after which the server would read no more."""
        if self.started:
            return
        headers = {**refusal.headers, **CLOSE}
        body = json.dumps({"error": str(refusal)}).encode()
        await self({"type": "http.response.start", "status": refusal.status, "headers": _raw(headers, body)})
        await self({"type": "http.response.body", "body": body, "more_body": True})
        self._refused = True

    async def finish(self, receive: Receive) -> None:
        """Drop the rest of the request for up to LINGER seconds, and end the response."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while self._refused and not self.body_read:
                    message = await receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        if self._refused:
            await self({"type": "http.response.body", "body": b""})


async def _while_connected(
    app: ASGIApp, scope: Scope, body: bytes, receive: Receive, answer: _Response
) -> None:
    """Run the application until it has answered or its client has disconnected."""
    replayed = False
    task = asyncio.current_task()
    assert task is not None

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    if scope["method"] != "POST":  # at once or never
        await app(scope, replay, answer)
        return
    gone = False

    def left(done: asyncio.Future[Message]) -> None:
        nonlocal gone
        if not done.cancelled() and not answer.ended:
            gone = True
            task.cancel()

    watch = asyncio.ensure_future(receive())  # nothing more comes of a request than its end
    watch.add_done_callback(left)
    try:
        await app(scope, replay, answer)
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
    finally:
        watch.cancel()


def _closing(send: Send) -> Send:
    """`send` with the header that the connection ends with this response."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await send(message)

    return closing


def _too_large(found: str, most: int) -> HttpError:
    return HttpError(
        f"expected a body of {most:,} bytes at most, found {found}; send fewer requests in one", 413
    )


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _raw(headers: Mapping[str, str], body: bytes) -> list[tuple[bytes, bytes]]:
    every = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    return [(name.lower().encode(), value.encode()) for name, value in every.items()]
