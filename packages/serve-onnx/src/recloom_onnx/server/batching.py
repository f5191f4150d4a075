"""Dynamic micro-batching: requests that wait for a model at the same time run through it together.

An idle model runs a request at once. While it runs, others queue, and run together when it is free. Where the last
batch held several requests, the next batch waits for as many, because the same clients usually send their next
request then; at most `delay` after its oldest request arrived, and no request waits for others twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ..artifact.ids import Array, IdKind
from .http_errors import OVERLOADED, RETRY, HttpError
from .tensors import MAX_CELLS, Inputs, merged, width

Run = Callable[[Inputs, int], tuple[Array, Array]]
"""From the prepared inputs of R rows and k to (R, k) ids and (R, k) scores."""
IDLE = 10
"""Delays without a batch after which no further requests are expected."""


class Call(NamedTuple):
    """One queued request, or a part of one."""

    inputs: Inputs
    rows: int
    width: int
    k: int
    came: float
    answer: asyncio.Future[tuple[Array, Array]]


class Batcher:
    """The queue of one model.

    Args:
        run: the model; called in a thread, one call at a time.
        kind: of its ids.
        most: rows of a batch; a request of more is split.
        delay: seconds that a request waits for others.
        room: rows that may be queued.
        watch: called with the requests and rows of every batch.
    """

    def __init__(
        self,
        run: Run,
        kind: IdKind,
        most: int = 64,
        delay: float = 0.002,
        room: int = 1024,
        watch: Callable[[int, int], None] = lambda requests, rows: None,
    ) -> None:
        self.kind, self.most, self.delay, self.room, self.watch = kind, most, delay, room, watch
        self.waiting = 0
        """Rows in the queue."""
        self._run = run
        self._queue: deque[Call] = deque()
        self._thread = ThreadPoolExecutor(1, "recloom-model")  # ends when this object does
        self._work: asyncio.Task[None] | None = None
        self._enough: asyncio.Event | None = None
        self._last, self._finished = 0, 0.0

    async def submit(self, inputs: Inputs, k: int) -> tuple[Array, Array]:
        """(B, k) ids and (B, k) scores; HttpError where the queue is full. Cancelling removes the request."""
        rows = len(inputs["history"])
        self.check_rows(rows)
        if self.waiting + rows > self.room:
            raise HttpError(
                f"{self.waiting} requests wait for this model, and {self.room} may; try again soon",
                OVERLOADED,
                RETRY,
            )
        calls = self._calls(inputs, rows, k)
        self._queue.extend(calls)
        self.waiting += rows
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._until_empty())
        elif self._enough is not None and self.waiting >= min(self._last, self.most):
            self._enough.set()
        if len(calls) == 1:
            return await calls[0].answer
        try:
            parts = await asyncio.gather(*(call.answer for call in calls))
        finally:
            for call in calls:
                call.answer.cancel()
        ids, scores = zip(*parts, strict=True)
        return np.concatenate(ids), np.concatenate(scores)

    def check_rows(self, rows: int) -> None:
        """HttpError where one request holds more rows than may be queued."""
        if rows > self.room:
            raise HttpError(
                f"{rows} requests in one; expected {self.room} at most. Send them in several", 413
            )

    def _calls(self, inputs: Inputs, rows: int, k: int) -> list[Call]:
        """A request, split into parts that fit into a batch."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        return [
            Call(part, len(part["history"]), width(part), k, now, loop.create_future())
            for start in range(0, rows, self.most)
            for part in ({name: array[start : start + self.most] for name, array in inputs.items()},)
        ]

    async def _until_empty(self) -> None:
        try:
            while self._queue:
                await self._gather()
                calls = self._take()
                if calls:
                    await self._answer(calls)
                    self._last = sum(call.rows for call in calls)
                    self._finished = asyncio.get_running_loop().time()
        finally:
            self._work = None

    async def _gather(self) -> None:
        """Wait for as many rows as the last batch had, if they are to be expected."""
        now = asyncio.get_running_loop().time()
        left = self._queue[0].came + self.delay - now
        if self.waiting >= min(self._last, self.most) or left <= 0:
            return
        if now - self._finished > IDLE * self.delay:
            return
        self._enough = asyncio.Event()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), left)
        self._enough = None

    def _take(self) -> list[Call]:
        """Calls for one run, oldest first, without cancelled ones."""
        calls: list[Call] = []
        rows = wide = k = 0
        while self._queue:
            call = self._queue[0]
            new_rows, new_wide, new_k = rows + call.rows, max(wide, call.width), max(k, call.k)
            if calls and (new_rows > self.most or new_rows * max(new_wide, new_k) > MAX_CELLS):
                break
            self._queue.popleft()
            self.waiting -= call.rows
            if not call.answer.done():
                calls.append(call)
                rows, wide, k = new_rows, new_wide, new_k
        return calls

    async def _answer(self, calls: list[Call]) -> None:
        loop = asyncio.get_running_loop()
        try:
            ids, scores = await loop.run_in_executor(self._thread, self._together, calls)
        except Exception as error:
            if len(calls) == 1:
                _settle(calls[0], error)
            else:  # one of them is the cause, and the others must not fail with it
                for call in calls:
                    await self._answer([call])
            return
        self.watch(len(calls), len(ids))
        start = 0
        for call in calls:
            end = start + call.rows
            _settle(call, (ids[start:end, : call.k], scores[start:end, : call.k]))
            start = end

    def _together(self, calls: list[Call]) -> tuple[Array, Array]:
        inputs = merged([call.inputs for call in calls], self.kind)
        return self._run(inputs, max(call.k for call in calls))


def _settle(call: Call, outcome: tuple[Array, Array] | Exception) -> None:
    if call.answer.done():  # cancelled: the client went away
        return
    if isinstance(outcome, Exception):
        call.answer.set_exception(outcome)
    else:
        call.answer.set_result(outcome)
