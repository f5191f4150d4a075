"""A server of OpenAI's protocol on this machine with the latency and the faults of a distant one.

    python benchmarks/llm_stub.py --latency 0.2 --limited 0.05 --dropped 0.02 --seconds 120

Prints its port, and ends by itself after `--seconds`. Every request, refused or not, takes the latency. What
becomes of a request depends on the seed, the question and how often it was asked, not on the order of arrival.
GET /stats gives, by question, how often it was asked and how often answered with status 200.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections import Counter


class Server:
    """Answers `answer to QUESTION`, or 429, or closes the connection; questions are last messages."""

    def __init__(self, latency: float, limited: float, dropped: float, seed: int) -> None:
        self.latency, self.limited, self.dropped, self.seed = latency, limited, dropped, seed
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.under_way = self.most = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        try:
            while await self.request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; False ends the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("get /stats"):
            await send(writer, 200, self.stats())
            return True
        size = int(head.split("content-length:")[1].split("\r\n")[0])
        question = json.loads(await reader.readexactly(size))["messages"][-1]["content"]
        self.asked[question] += 1
        drawn = random.Random(f"{self.seed} {question} {self.asked[question]}").random()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self.latency)
        self.under_way -= 1
        if drawn < self.dropped:
            self.faults["dropped"] += 1
            return False
        if drawn < self.dropped + self.limited:
            self.faults["limited"] += 1
            await send(writer, 429, {"error": {"message": "slow down"}}, "Retry-After: 0\r\n")
            return True
        self.answered[question] += 1
        message = {"role": "assistant", "content": f"answer to {question}"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        await send(writer, 200, {"choices": choices, "usage": {"prompt_tokens": 20, "completion_tokens": 5}})
        return True

    def stats(self) -> dict[str, object]:
        return {
            "asked": self.asked, "answered": self.answered, "faults": self.faults, "most_under_way": self.most
        }  # fmt: skip


async def send(writer: asyncio.StreamWriter, status: int, body: dict[str, object], headers: str = "") -> None:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    writer.write(head.encode() + content)
    await writer.drain()


async def main() -> None:
    """Serve for a while."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--limited", type=float, default=0.05)
    parser.add_argument("--dropped", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    served = Server(options.latency, options.limited, options.dropped, options.seed)
    server = await asyncio.start_server(served.connection, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(options.seconds)


if __name__ == "__main__":
    asyncio.run(main())
