"""How near OpenAIChat comes to the rate of an ideal client, on a server that limits and drops.

    python benchmarks/llm_client.py [--questions 2000] [--concurrency 32]

The server is benchmarks/llm_stub.py in a process of its own: 200 ms for every request, 5 % answered 429, 2 %
dropped without an answer. The ideal rate is concurrency / latency, as if nothing failed (the faults leave 93 % of
it); the target is 85 %, nothing lost, nothing answered twice. Two clients: threads that call `generate`, and
`ask` with a ledger, which is then asked again (that counts in the time) and must not call the server. Writes
benchmarks/llm_client.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recloom.llm import Ledger, LLMRequest, LLMResponse, OpenAIChat, ask

LATENCY, LIMITED, DROPPED, SEED = 0.2, 0.05, 0.02, 0
LIFETIME = 120
"""Seconds after which the server ends by itself."""
TARGET = 0.85
Client = Callable[[OpenAIChat, list[str]], list[str | None]]


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of a fresh server, which is stopped at the end."""
    faults = {"latency": LATENCY, "limited": LIMITED, "dropped": DROPPED, "seed": SEED, "seconds": LIFETIME}
    words = [word for name, value in faults.items() for word in (f"--{name}", str(value))]
    script = str(Path(__file__).with_name("llm_stub.py"))
    process = subprocess.Popen([sys.executable, script, *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def threads(model: OpenAIChat, texts: list[str]) -> list[str | None]:
    """Call `generate` from as many threads as the model has connections."""
    with ThreadPoolExecutor(model.concurrency) as pool:
        found = pool.map(lambda text: model.generate([{"role": "user", "content": text}]), texts)
        return [generation.texts[0] for generation in found]


def through_ledger(model: OpenAIChat, texts: list[str]) -> list[str | None]:
    """Ask with a ledger; the second time everything is there."""
    requests = [LLMRequest(({"role": "user", "content": text},)) for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        found = ask(model, requests, ledger).responses
        again = ask(model, requests, ledger)
        assert again.usage.calls == 0
        responses, second = (
            [one for one in some if isinstance(one, LLMResponse)] for some in (found, again.responses)
        )
        assert [one.texts for one in responses] == [one.texts for one in second]
        return [one.texts[0] if isinstance(one, LLMResponse) else None for one in found]


def measure(client: Client, count: int, concurrency: int) -> dict[str, Any]:
    """One run against a server of its own."""
    texts = [f"question {at}: which film comes after number {at * 7919 % 10007}?" for at in range(count)]
    with server() as address:
        model = OpenAIChat("stub", base_url=f"{address}/v1", key_env=None, concurrency=concurrency)
        began, cpu = time.perf_counter(), time.process_time()
        answers = client(model, texts)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        with urllib.request.urlopen(f"{address}/stats") as response:
            stats = json.load(response)
    rate, ideal = count / seconds, concurrency / LATENCY
    return {
        "seconds": round(seconds, 2),
        "client_cpu_seconds": round(cpu, 2),
        "rate": round(rate, 1),
        "share_of_ideal": round(rate / ideal, 3),
        "share_left_by_faults": round(count / sum(stats["asked"].values()), 3),
        "lost": sum(answer != f"answer to {text}" for answer, text in zip(answers, texts, strict=True)),
        "answered_twice": sum(times > 1 for times in stats["answered"].values()),
        "answered": sum(stats["answered"].values()),
        "requests": sum(stats["asked"].values()),
        "faults": stats["faults"],
        "most_under_way": stats["most_under_way"],
    }


def main() -> None:
    """Measure both clients, write the record, fail where the target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    clients: dict[str, Client] = {"threads": threads, "ask_with_ledger": through_ledger}
    runs = {name: measure(one, options.questions, options.concurrency) for name, one in clients.items()}
    record = {
        "questions": options.questions,
        "concurrency": options.concurrency,
        "server": {
            "latency_s": LATENCY, "share_429": LIMITED, "retry_after_s": 0, "share_dropped": DROPPED, "seed": SEED,
        },
        "ideal_rate": options.concurrency / LATENCY,
        "target_share": TARGET,
        **runs,
        "load_before": round(load, 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("recloom", "httpx", "tenacity")},
        "date": date.today().isoformat(),
    }  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    good = all(
        run["share_of_ideal"] >= TARGET and not run["lost"] and not run["answered_twice"]
        for run in runs.values()
    )
    sys.exit(not good)


if __name__ == "__main__":
    main()
