"""Prepare 20 million rows of CSV, against what Polars needs to read the same CSV and write it as Parquet.

    python benchmarks/prepare.py [--rows 20000000] [--runs 3]
    python benchmarks/prepare.py --crashes 300

Each run is a process of its own; runs alternate. Best wall time of each side; the target is a ratio of
at most 3 and at most 6 GB. `--crashes` prepares small sources of three kinds in so many fresh processes instead, and
counts how they ended and what they wrote: a race between threads would show in some of them. Writes
benchmarks/prepare.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SEED = 0
USERS, ITEMS = 140_000, 27_000
PLAIN = "import polars as pl; pl.read_csv('ratings.csv').write_parquet('plain.parquet')"
PREPARE = """
from pathlib import Path
from recloom.data.prepare.source import prepare_source
prepare_source("table", Path("prepared"), Path("ratings.csv"), overwrite=True)
"""
COMMAND = "from recloom.cli.main import main; main()"
RECORD = Path(__file__).with_suffix(".json")


def make_csv(path: Path, rows: int) -> None:
    """Integers userId, movieId, rating, timestamp in random order."""
    random = np.random.default_rng(SEED)
    columns = {
        "userId": random.integers(1, USERS, rows),
        "movieId": random.integers(1, ITEMS, rows),
        "rating": random.integers(1, 6, rows),
        "timestamp": random.integers(800_000_000, 1_500_000_000, rows),
    }
    pl.DataFrame(columns).write_csv(path)


def run(code: str, folder: Path) -> dict[str, float]:
    """Wall and CPU seconds and peak resident GB of one process."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"a run failed with status {status}")
    return {
        "wall": round(time.perf_counter() - began, 2),
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_gb": round(usage.ru_maxrss / 1e6, 2),
    }


def make_sources(folder: Path, rows: int = 5_000) -> list[str]:
    """A table of numbers, JSON lines with names as ids, and a folder as MovieLens has it."""
    make_csv(folder / "ratings.csv", rows)
    numbers = pl.read_csv(folder / "ratings.csv")
    names = numbers.with_columns(pl.format("user {}", pl.col("userId") % 500).alias("userId"))
    names.write_ndjson(folder / "names.jsonl")
    (folder / "films").mkdir()
    numbers.write_csv(folder / "films" / "ratings.csv")
    films = numbers.select(pl.col("movieId").unique(maintain_order=True))
    films = films.with_columns(title=pl.format("Film {} (1990)", "movieId"), genres=pl.lit("Drama|War"))
    films.write_csv(folder / "films" / "movies.csv")
    return ["ratings.csv", "names.jsonl", "films"]


def fresh_processes(count: int, folder: Path) -> dict[str, Any]:
    """How `count` processes ended that prepare the sources in turn, and how many results each source has."""
    sources = make_sources(folder)
    ended: Counter[str] = Counter()
    written: dict[str, set[str]] = {source: set() for source in sources}
    for place in range(count):
        source, out = sources[place % len(sources)], folder / "out"
        words = ["data", "prepare", source, "--out", out.name, "--overwrite", "true"]
        done = subprocess.run([sys.executable, "-c", COMMAND, *words], cwd=folder, capture_output=True)
        ended[str(done.returncode)] += 1
        if done.returncode:
            print(place, source, done.returncode, done.stderr.decode()[-2000:])
            continue
        files = sorted(path for path in out.iterdir() if path.is_file())
        contents = b"".join(path.name.encode() + path.read_bytes() for path in files) + done.stdout
        written[source].add(hashlib.sha256(contents).hexdigest())
    results = {source: len(found) for source, found in written.items()}
    return {"processes": count, "exit_status": ended, "different_results": results}


def main() -> None:
    """Make the file, time both sides, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--crashes", type=int, default=0, help="count how so many fresh processes end")
    options = parser.parse_args()
    earlier = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if options.crashes:
        with tempfile.TemporaryDirectory() as name:
            found = fresh_processes(options.crashes, Path(name)) | {"date": date.today().isoformat()}
        write(earlier | {"fresh_processes": found})
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_csv(folder / "ratings.csv", options.rows)
        pairs = [(run(PLAIN, folder), run(PREPARE, folder)) for _ in range(options.runs)]
        size = (folder / "ratings.csv").stat().st_size
    plain, prepared = (min((pair[side] for pair in pairs), key=lambda one: one["wall"]) for side in (0, 1))
    record = {
        "rows": options.rows,
        "csv_mb": round(size / 1e6),
        "seed": SEED,
        "polars_read_and_write": plain,
        "recloom_data_prepare": prepared,
        "ratio_wall": round(prepared["wall"] / plain["wall"], 2),
        "ratio_cpu": round(prepared["cpu"] / plain["cpu"], 2),
        "all_runs": [{"polars": one, "recloom": other} for one, other in pairs],
        "versions": {name: version(name) for name in ("recloom", "polars", "numpy")},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 1),
        "date": date.today().isoformat(),
    }
    kept = {name: earlier[name] for name in ("fresh_processes",) if name in earlier}
    write(record | kept)


def write(record: dict[str, Any]) -> None:
    """Keep and show the record."""
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
