"""The server under load, with and without micro-batching, and what it adds to one request.

    python benchmarks/serve_load.py [--seconds 120] [--connections 32] [--items 10000 100000]

Clients run in a process of their own (serve_clients.py) and ask for 10 items for histories of 1 to 50, on kept
connections. A server that batches and one that does not are up side by side and are asked in turns of 15 seconds, so
that both meet the same machine; percentiles are medians over the turns. Targets: no failed request; micro-batching at
least doubles the requests per second at no larger p99. `overhead_ms` is the median over HTTP on one connection, less
that of the bare session for the same requests. Writes benchmarks/serve_load.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from recloom_onnx.artifact.session import Session
from serve_clients import requests
from serve_process import Served, artefact, circumstances, clients, report, served

TARGET = 2.0
TURN = 15.0
"""Seconds of one turn."""
ALONE = 2000
"""Requests of one client at most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max_delay_ms", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    load = os.getloadavg()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for items in given.items:
            path = artefact(Path(folder) / f"items{items}.onnx", items)
            found[f"{items} items"] = measure(path, items, given)
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    record = {"results": found, **circumstances(load, settings)}
    given.out.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    print(json.dumps(found, indent=2))


def measure(path: Path, items: int, given: argparse.Namespace) -> dict[str, Any]:
    """One artefact: batched, not batched, and one client alone."""
    with ExitStack() as up:
        servers = {
            name: up.enter_context(
                served(path, "--max_batch", batch, "--max_delay_ms", given.max_delay_ms, "--threads", given.threads,
                       "--no-log")
            )
            for name, batch in (("batched", 64), ("one by one", 1))
        }  # fmt: skip
        turn = min(TURN, given.seconds)

        def asked(name: str, seconds: float, connections: int = given.connections, most: int = 10**9) -> Any:
            found = clients(
                servers[name].port, items, connections=connections, seconds=seconds, requests=most
            )
            return report(found)

        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
        for name in servers:
            asked(name, min(3, given.seconds))
        before = batches(servers["batched"])
        for _ in range(max(1, round(given.seconds / turn))):
            for name, seen in turns.items():
                seen.append(asked(name, turn))
        ran = [after - early for after, early in zip(batches(servers["batched"]), before, strict=True)]
        alone = [asked("batched", turn, 1, ALONE // 4) for _ in range(4)]
    rows = {name: together(seen) for name, seen in {**turns, "one client": alone}.items()}
    rows["batched"]["requests_a_batch"] = round(ran[0] / ran[1], 2)
    batched, single = rows["batched"], rows["one by one"]
    session = bare(path, items, given.threads)
    gain = batched["per_second"] / single["per_second"]
    return {
        **rows,
        "bare_session_ms": session,
        "overhead_ms": round(rows["one client"]["ms"]["p50"] - session["p50"], 3),
        "gain": round(gain, 2),
        "gain_met": gain >= TARGET and batched["ms"]["p99"] <= single["ms"]["p99"],
        "failed": sum(sum(row["failures"].values()) + failed(row) for row in (batched, single)),
    }


def batches(server: Served) -> list[float]:
    """How many requests ran, and in how many batches."""
    return [server.metric(f"recloom_batch_requests_{name}") for name in ("sum", "count")]


def together(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Turns as one: sums, medians of the percentiles, the largest of the maxima."""
    seconds = sum(turn["seconds"] for turn in turns)
    spent = {name: [turn["ms"][name] for turn in turns] for name in turns[0]["ms"]}
    counted: dict[str, Counter[str]] = {"statuses": Counter(), "failures": Counter()}
    for turn in turns:
        for name, found in counted.items():
            found.update(turn[name])
    answered = sum(turn["ok"] for turn in turns)
    return {
        "ok": answered,
        **counted,
        "seconds": round(seconds, 1),
        "per_second": round(answered / seconds, 1),
        "per_second_of_the_turns": [turn["per_second"] for turn in turns],
        "ms": {
            name: round(max(ms) if name == "max" else statistics.median(ms), 3) for name, ms in spent.items()
        },
    }


def failed(row: dict[str, Any]) -> int:
    """BatchRecommender that were none."""
    return sum(count for status, count in row["statuses"].items() if status != "200")


def bare(path: Path, items: int, threads: int) -> dict[str, float]:
    """Milliseconds of the session alone, for the requests that the clients send."""
    session, spent = Session(path, threads=threads), []
    for text in requests(items):
        history = json.loads(text.partition(b"\r\n\r\n")[2])["history"]
        begun = time.perf_counter()
        session.recommend([history], k=10)
        spent.append(1000 * (time.perf_counter() - begun))
    cuts = statistics.quantiles(spent, n=100)
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "p99": round(cuts[98], 3)}


if __name__ == "__main__":
    main()
