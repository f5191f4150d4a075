"""The server process: its socket, signals, reloads, and a graceful shutdown.

In a shutdown the server reports that it is not ready, accepts the connections that are already queued, answers what
was sent, with `Connection: close`, and closes the listening socket and then idle connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from recloom.errors import RecloomError
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .models import Models
from .settings import Settings

ACCEPTED = 0.1
"""Seconds of a shutdown in which queued connections are still accepted."""
LAST = 1.0
"""Seconds of a shutdown in which open connections may still send a request."""
SPARE = 5.0
"""Seconds beyond the time limit of a request after which a shutdown is forced."""
BACKLOG = 128
"""Connections that are accepted at a time, and length of the system's queue."""
FILES = 4096
"""Open files that are requested of the system, where it allows as many."""
SPARED = 64
"""Open files that are not connections."""


class TimedProtocol(H11Protocol):
    """HTTP/1.1 with a limited time for a request's headers and a limited number of connections."""

    header_timeout = 10.0
    """Seconds."""
    _timer: asyncio.TimerHandle | None = None

    max_connections = 1024
    """More are closed at once, before the system runs out of open files."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        """Start the timer when a request has begun; stop it when its headers are complete."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.header_timeout, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def timed_protocol(seconds: float) -> type[TimedProtocol]:
    """A class with these limits, since uvicorn takes a class: as many connections as open files allow."""
    allowed = open_files()

    class Limited(TimedProtocol):
        header_timeout = seconds
        max_connections = max(16, allowed - 3 * BACKLOG - SPARED)  # some come and some go while it is counted

    return Limited


def open_files() -> int:
    """How many files may be open, after asking the system for FILES; where there is no such limit, FILES."""
    try:
        import resource
    except ImportError:  # Windows
        return FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def _soon(loop: asyncio.AbstractEventLoop, action: Callable[[], None], *_: Any) -> None:
    """Let the event loop do something, from a signal handler."""
    loop.call_soon_threadsafe(action)


class Server(uvicorn.Server):
    """A server of models.

    Args:
        app: the application.
        models: loaded.
        settings: limits.
        listening: a bound socket.
        started: called once requests are answered.
    """

    def __init__(
        self,
        app: ASGIApp,
        models: Models,
        settings: Settings,
        listening: socket.socket,
        started: Callable[[], None] = lambda: None,
    ) -> None:
        config = uvicorn.Config(
            app, http=timed_protocol(settings.timeout), ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, backlog=BACKLOG, proxy_headers=False,
            timeout_graceful_shutdown=int(settings.timeout + SPARE) + 1,
        )  # fmt: skip
        super().__init__(config)
        self.models, self.listening, self._announce = models, listening, started
        self._loads: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the server, SIGHUP reloads all models, where there is one.

        Only a main thread receives signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        heard = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop}
        if hasattr(signal, "SIGHUP"):  # not on Windows, whose event loop has no signal handlers either
            heard[signal.SIGHUP] = self.reload
        before = {
            number: signal.signal(number, partial(_soon, loop, action)) for number, action in heard.items()
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Shut down; at once if called a second time."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.models.draining = True

    def reload(self) -> None:
        """Reload every model; one whose files are refused keeps its versions."""
        task = asyncio.get_running_loop().create_task(self._reload())
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _reload(self) -> None:
        for name in self.models.names:
            with contextlib.suppress(RecloomError):  # it is in the log
                await self.models.load(name)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests."""
        await super().startup(sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept queued connections, close the listening socket, answer."""
        self.models.draining = True
        with contextlib.suppress(OSError):
            self.listening.listen(0)  # new connections are refused, queued ones accepted
        await asyncio.sleep(ACCEPTED)
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + LAST
        while self.server_state.connections and loop.time() < until and not self.force_exit:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def serve_until_stopped(self) -> None:
        """Answer requests until a signal or `stop`."""
        self.run([self.listening])


def bound(settings: Settings) -> socket.socket:
    """A socket bound to the address; RecloomError where that is not possible."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it an answer takes 40 ms more
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise RecloomError(
            f"cannot listen at {settings.host}, port {settings.port}: {error.strerror or error}. Choose another --host "
            "or --port; --port 0 takes any free one"
        ) from error
    return listening


def address(listening: socket.socket) -> str:
    """`http://host:port` of a bound socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
