"""Prepare 20 million rows of CSV, against what Polars needs to read the same CSV and write it as Parquet.

    python benchmarks/prepare.py [--rows 20000000] [--runs 3]

Each run is a process of its own; runs alternate. Best wall time of each side; the target is a ratio of
at most 3 and at most 6 GB. Writes benchmarks/prepare.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

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


def main() -> None:
    """Make the file, time both sides, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
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
    (Path(__file__).with_suffix(".json")).write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
