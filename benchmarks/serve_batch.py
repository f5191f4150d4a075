"""`recloom batch` over many requests: killed, gone on with, and compared with a run that nobody stopped.

    python benchmarks/serve_batch.py [--users 300000] [--items 10000]

Requests have histories of 1 to 50 random items; lists of 10. The first command gets SIGKILL as soon as a few parts
are on the disk, the second goes on; a third makes another file at one go. Speed and memory (the largest resident
size) are those of the third. Writes serve_batch.json beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from serve_process import artefact, circumstances

PARTS = 5
"""On the disk at the kill."""


def requests(users: int, items: int) -> pl.DataFrame:
    """user_id and history."""
    random = np.random.default_rng(0)
    lengths = random.integers(1, 51, users)
    flat = np.array([f"i{number}" for number in range(items)])[random.integers(0, items, lengths.sum())]
    owner = pl.Series("user_id", np.repeat(np.arange(users), lengths))
    table = pl.DataFrame({"user_id": owner, "history": flat}).group_by("user_id", maintain_order=True).all()
    return table.with_columns("u" + pl.col("user_id").cast(pl.String))


def started(path: Path, users: Path, out: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "recloom.cli.main",
        "batch",
        str(path),
        "--users",
        str(users),
        "--out",
        str(out),
    ]
    return subprocess.Popen(
        [*command, "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> str:
    said, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors)
    return said


def measure(users: int, items: int, folder: Path) -> dict[str, Any]:
    path = artefact(folder / "model.onnx", items)
    table, out, whole = folder / "users.parquet", folder / "lists.parquet", folder / "whole.parquet"
    requests(users, items).write_parquet(table)
    first, parts = started(path, table, out), Path(f"{out}.parts")
    while len([*parts.glob("part-*.parquet")]) < PARTS:
        if first.poll() is not None:
            raise SystemExit(f"it ended before it could be killed: {first.communicate()[1]}")
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    target_after_kill = out.exists()
    resumed = int(
        re.search(r"went on from row ([\d,]+)", ended(started(path, table, out)))[1].replace(",", "")
    )
    third, peak = started(path, table, whole), 0
    while third.poll() is None:
        peak = max(peak, resident(third.pid))
        time.sleep(0.02)
    said = ended(third)
    seconds, rate = re.search(r"in ([\d.]+) s, ([\d,]+) per second", said).groups()
    found = pl.read_parquet(whole)
    return {
        "target_after_kill": target_after_kill,
        "resumed_at": resumed,
        "equal_lists": pl.read_parquet(out).equals(found),
        "equal_bytes": digest(out) == digest(whole),
        "rows": len(found),
        "users_with_a_list": found["user_id"].n_unique(),
        "parts_left": parts.exists(),
        "seconds": float(seconds),
        "per_second": int(rate.replace(",", "")),
        "megabytes_resident": round(peak / 1e6),
        "megabytes_of_requests": round(table.stat().st_size / 1e6, 1),
    }


def resident(process: int) -> int:
    """Bytes; the largest so far. What the system counts for a child at its end holds that of its parent as well."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return 1024 * int(found[1]) if found else 0
    return 0


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=300_000)
    parser.add_argument("--items", type=int, default=10_000)
    given = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.users, given.items, Path(folder))
    record = {"results": found, "seed": 0, **circumstances(load, vars(given))}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
