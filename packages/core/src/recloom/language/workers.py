"""Batches worked on at the same time, by threads that nobody has to wait for when the program is interrupted.

The threads of concurrent.futures are joined at exit, so Ctrl-C would wait for every answer under way; these are
not. Answers come back in the order in which they arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")


class Workers(Generic[Job, Done]):
    """Up to `size` threads that do `work`, which must not raise; with size 1 the work is done in `next` itself."""

    def __init__(self, work: Callable[[Job], Done], size: int) -> None:
        self.size = size
        self.under_way = 0
        self._work = work
        self._todo: SimpleQueue[Job | None] = SimpleQueue()
        self._done: SimpleQueue[Done] = SimpleQueue()
        self._threads = 0

    @property
    def free(self) -> bool:
        """Whether another job would be begun at once."""
        return self.under_way < self.size

    def start(self, job: Job) -> None:
        """Hand a job over."""
        self._todo.put(job)
        self.under_way += 1
        if self._threads < self.under_way and self.size > 1:
            self._threads += 1
            Thread(target=self._run, daemon=True).start()

    def next(self) -> Done:
        """Wait for the next job that is done."""
        if self.size == 1:
            job = self._todo.get()
            assert job is not None
            self._done.put(self._work(job))
        done = self._done.get()
        self.under_way -= 1
        return done

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for _ in range(self._threads):
            self._todo.put(None)

    def _run(self) -> None:
        while (job := self._todo.get()) is not None:
            self._done.put(self._work(job))
