"""Requests that run together get what they would get alone; nobody waits in vain."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from recloom_onnx.server.batching import Batcher
from recloom_onnx.server.http_errors import HttpError
from recloom_onnx.server.tensors import merged


def given(*rows: list[str]):
    width = max(map(len, rows))
    history = np.array([[""] * (width - len(row)) + row for row in rows], dtype=object).reshape(
        len(rows), width
    )
    return {"history": history}


class Model:
    """Gives back the history of each row as its list; remembers what ran together."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.batches = seconds, []

    def __call__(self, given, k):
        history = given["history"]
        self.batches.append([[item for item in row if item] for row in history.tolist()])
        if "bad" in history:
            raise ValueError("bad")
        time.sleep(self.seconds)
        ids = np.full((len(history), k), "", dtype=object)
        for row, items in enumerate(self.batches[-1]):
            ids[row, : len(items)] = items[:k]
        return ids, np.full(ids.shape, float(k), np.float32)


def test_a_lone_request_does_not_wait_for_others():
    async def go():
        batcher = Batcher(Model(), "string", delay=0.5)
        await batcher.submit(given(["warm"]), 1)
        begun = time.perf_counter()
        for _ in range(5):
            await batcher.submit(given(["a"]), 1)
        return time.perf_counter() - begun

    assert asyncio.run(go()) < 0.4


def test_what_meets_runs_together_and_everybody_gets_his_own():
    model = Model(0.02)

    async def go():
        batcher = Batcher(model, "string", most=8, delay=0.01)
        asked = [(given([f"{n}"] * (n % 4 + 1)), n % 3 + 1) for n in range(30)]
        return asked, await asyncio.gather(*(batcher.submit(one, k) for one, k in asked))

    asked, found = asyncio.run(go())
    for (one, k), (ids, scores) in zip(asked, found, strict=True):
        assert ids.shape == scores.shape == (1, k)
        items = one["history"][0].tolist()
        assert ids[0].tolist() == (items + [""] * k)[:k]
    assert max(map(len, model.batches)) == 8
    assert sum(map(len, model.batches)) == 30


def test_after_a_full_batch_the_next_one_waits_for_as_many_but_not_longer_than_the_delay():
    model = Model()

    async def go():
        batcher = Batcher(model, "string", delay=0.2)
        block = threading.Event()
        run = batcher._run
        batcher._run = lambda given, k: (block.wait(5), run(given, k))[1]
        first = [asyncio.ensure_future(batcher.submit(given(["x"]), 1)) for _ in range(4)]
        await asyncio.sleep(0.05)
        block.set()
        await asyncio.gather(*first)
        begun = time.perf_counter()
        again = [asyncio.ensure_future(batcher.submit(given(["y"]), 1)) for _ in range(2)]
        await asyncio.sleep(0.02)
        again += [asyncio.ensure_future(batcher.submit(given(["y"]), 1)) for _ in range(2)]
        await asyncio.gather(*again)
        full = time.perf_counter() - begun
        begun = time.perf_counter()
        await batcher.submit(given(["z"]), 1)
        return full, time.perf_counter() - begun

    full, alone = asyncio.run(go())
    assert [["y"]] * 4 in model.batches
    assert full < 0.15, "the batch was full, so nobody had to wait"
    assert 0.1 < alone < 0.4, "a single one waited for the delay, once"


def test_a_request_whose_client_is_gone_is_not_run():
    model = Model(0.05)

    async def go():
        batcher = Batcher(model, "string", most=1)
        first = asyncio.ensure_future(batcher.submit(given(["a"]), 1))
        await asyncio.sleep(0.01)
        gone = asyncio.ensure_future(batcher.submit(given(["gone"]), 1))
        last = asyncio.ensure_future(batcher.submit(given(["b"]), 1))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.gather(first, last)
        return batcher.waiting

    assert asyncio.run(go()) == 0
    assert model.batches == [[["a"]], [["b"]]]


def test_a_full_queue_turns_away():
    async def go():
        batcher = Batcher(Model(0.05), "string", most=1, room=2)
        first = asyncio.ensure_future(batcher.submit(given(["a"]), 1))
        await asyncio.sleep(0.01)
        waiting = [asyncio.ensure_future(batcher.submit(given(["b"]), 1)) for _ in range(2)]
        await asyncio.sleep(0.001)
        with pytest.raises(
            HttpError, match="2 requests wait for this model, and 2 may; try again soon"
        ) as stop:
            await batcher.submit(given(["c"]), 1)
        assert (stop.value.status, stop.value.headers) == (503, {"Retry-After": "1"})
        with pytest.raises(HttpError, match="3 requests in one; expected 2 at most") as stop:
            await batcher.submit(given(["c"], ["c"], ["c"]), 1)
        assert stop.value.status == 413
        await asyncio.gather(first, *waiting)

    asyncio.run(go())


def test_one_that_fails_does_not_take_others_with_it():
    model = Model(0.02)

    async def go():
        batcher = Batcher(model, "string")
        first = asyncio.ensure_future(batcher.submit(given(["a"]), 1))
        await asyncio.sleep(0.01)
        rest = [asyncio.ensure_future(batcher.submit(given([name]), 1)) for name in ("b", "bad", "c")]
        return await asyncio.gather(first, *rest, return_exceptions=True)

    a, b, bad, c = asyncio.run(go())
    assert [one[0][0, 0] for one in (a, b, c)] == ["a", "b", "c"]
    assert isinstance(bad, ValueError)


def test_a_request_of_more_rows_than_a_batch_is_taken_apart_and_put_together():
    model = Model()

    async def go():
        return await Batcher(model, "string", most=4).submit(given(*([f"{n}"] for n in range(10))), 2)

    ids, scores = asyncio.run(go())
    assert ids[:, 0].tolist() == [f"{n}" for n in range(10)]
    assert scores.shape == (10, 2)
    assert [len(batch) for batch in model.batches] == [4, 4, 2]


def test_what_would_be_too_large_together_runs_apart(monkeypatch):
    monkeypatch.setattr("recloom_onnx.server.batching.MAX_CELLS", 30)
    model = Model(0.02)

    async def go():
        batcher = Batcher(model, "string")
        first = asyncio.ensure_future(batcher.submit(given(["a"]), 1))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, *(batcher.submit(given(["long"] * 12), 1) for _ in range(3)))

    asyncio.run(go())
    assert [len(batch) for batch in model.batches] == [1, 2, 1]


def test_requests_of_one_batch_are_joined_in_order_and_aligned_right():
    parts = [
        {
            "history": np.array([["a"]], object),
            "history_time": np.array([[7]]),
            "user": np.array(["u"], object),
        },
        {
            "history": np.array([["b", "c"], ["", "d"]], object),
            "history_time": np.array([[1, 2], [0, 3]]),
            "user": np.array(["v", "w"], object),
        },
    ]
    found = merged(parts, "string")
    assert found["history"].tolist() == [["", "a"], ["b", "c"], ["", "d"]]
    assert found["history_time"].tolist() == [[0, 7], [1, 2], [0, 3]]
    assert found["user"].tolist() == ["u", "v", "w"]
    same = merged([parts[1], parts[1]], "string")
    assert same["history"].tolist() == [["b", "c"], ["", "d"]] * 2
