"""Connections that each serve one thread at a time.

A pool of httpx that threads share may close a connection that another thread has just begun to use (httpcore
1.0.9 looks whether a connection is idle and whether it has data in two steps): the answer is lost, and is asked and
paid for again. Here whoever sends a request holds a client of one connection until the answer is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import LifoQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


class Lanes:
    """Up to `count` clients, each made when it is first needed; the last one used is the first to be used again."""

    def __init__(self, count: int, make: Callable[[], httpx.Client]) -> None:
        self._make = make
        self._free: LifoQueue[httpx.Client | None] = LifoQueue()
        for _ in range(count):
            self._free.put(None)

    @contextmanager
    def one(self) -> Iterator[httpx.Client]:
        """A client of one's own; waits while all are taken."""
        client = self._free.get()
        try:
            client = client or self._make()
            yield client
        finally:
            self._free.put(client)
