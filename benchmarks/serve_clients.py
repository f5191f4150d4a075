"""Clients of a server, in a process of their own: each asks on one kept connection, again when it has its answer.

    python benchmarks/serve_clients.py PORT [--connections 32] [--seconds 10] [--requests N] [--items 10000]

Prints one line of JSON: requests answered with 200, what else came, failures, seconds, latency in milliseconds. A
connection that is refused ends its client and is no failure: the server has not accepted anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Seen:
    """What came back."""

    until: float
    most: int
    begun: int = 0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def more(self) -> bool:
        self.begun += 1
        return self.begun <= self.most and time.perf_counter() < self.until


def requests(items: int, count: int = 512) -> list[bytes]:
    """Random histories of 1 to 50 items, as requests."""
    draw, found = random.Random(0), []
    for _ in range(count):
        history = [f"i{draw.randrange(items)}" for _ in range(draw.randint(1, 50))]
        body = json.dumps({"history": history, "k": 10}).encode()
        head = f"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        found.append(head.encode() + body)
    return found


async def client(port: int, texts: list[bytes], start: int, seen: Seen) -> None:
    """Ask until there is no more time, or nobody listens any more."""
    place, streams = start, None
    while seen.more():
        fresh = streams is None
        try:
            reader, writer = streams or await asyncio.open_connection("127.0.0.1", port)
            begun = time.perf_counter()
            writer.write(texts[place % len(texts)])
            status, last = await answer(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            if not fresh:
                seen.failures[type(error).__name__] += 1
            return
        place += 1
        seen.statuses[status] += 1
        if status == 200:
            seen.latencies.append(1000 * (time.perf_counter() - begun))
        streams = None if last else (reader, writer)
        if last:
            writer.close()
    if streams:
        streams[1].close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the connection ends with it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
    await reader.readexactly(length)
    return int(head[9:12]), b"connection: close" in head


async def run(port: int, connections: int, seconds: float, most: int, items: int) -> dict[str, object]:
    texts, begun = requests(items), time.perf_counter()
    seen = Seen(begun + seconds, most)
    await asyncio.gather(*(client(port, texts, 17 * place, seen) for place in range(connections)))
    spent, ordered = time.perf_counter() - begun, sorted(seen.latencies)
    at = {name: ordered[int(part * (len(ordered) - 1))] for name, part in PARTS.items()} if ordered else {}
    return {
        "ok": len(ordered),
        "statuses": dict(seen.statuses),
        "failures": dict(seen.failures),
        "seconds": round(spent, 2),
        "per_second": round(len(ordered) / spent, 1),
        "ms": {name: round(value, 3) for name, value in at.items()},
    }


PARTS = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--requests", type=int, default=10**9)
    parser.add_argument("--items", type=int, default=10_000)
    given = parser.parse_args()
    found = asyncio.run(run(given.port, given.connections, given.seconds, given.requests, given.items))
    print(json.dumps(found))
