"""Set up the data of a run: CPU seconds of `RecDataModule.setup` on a prepared folder, against the plain way.

    python benchmarks/setup.py [DATA] [--runs 7] [--before PYTHON]

The plain way reads the same files, encodes the ids, sorts the rows by user and time, divides them, and picks three
parts and two histories by masks over all rows; both must give the same rows. `--before` names the Python of an
environment with another state of Recloom, which is measured in alternation, in processes of its own.

DATA is a prepared dataset; without it one of the size of MovieLens-1M is invented (6,040 users, 3,706 items, 1,000,209
rows). Best of the runs, after one that is not counted (it writes what `.cache` keeps). Writes benchmarks/setup.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

SEED = 0
USERS, ITEMS, ROWS = 6_040, 3_706, 1_000_209
ONE_SIDE = """
import json, resource, sys
try:
    from recloom.data.batches import RecDataModule
except ImportError:
    from recloom import RecDataModule

def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

found = []
for _ in range(int(sys.argv[2]) + 1):
    data, began = RecDataModule(sys.argv[1]), seconds()
    data.setup()
    found.append(seconds() - began)
print(json.dumps({"split": data.split_hash, "seconds": found[1:]}))
"""
PLAIN = """
import json, resource, sys
import polars as pl
import torch
from recloom.data import Catalog, Interactions, assign, read_card, split_digest
from recloom.schemas import SplitSpec

def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

SHARES = (["train"], ["valid"], ["test"], ["train", "context"], ["train", "valid", "context"])
found = []
for _ in range(int(sys.argv[2]) + 1):
    began = seconds()
    card, catalog = read_card(sys.argv[1]), Catalog.load(sys.argv[1])
    frame = pl.read_parquet(sys.argv[1] + "/interactions.parquet")
    part = assign(frame, SplitSpec(), card.time)
    rows = Interactions.from_frame(frame, catalog)
    masks = [torch.from_numpy(part.is_in(names).fill_null(False).to_numpy().copy()) for names in SHARES]
    parts = [rows.select(mask) for mask in masks]
    split, ids = split_digest(part), catalog.digest()
    found.append(seconds() - began)
print(json.dumps({"split": split, "seconds": found[1:]}))
"""


def invent(folder: Path) -> None:
    """A prepared dataset: users of unlike activity, items by a power law, times in order, some of them equal."""
    import numpy as np
    import polars as pl
    from recloom.data.prepare import arrange, write_dataset
    from recloom.data.readers import RawTables
    from recloom.schemas import Source

    random = np.random.default_rng(SEED)
    share = random.lognormal(sigma=1.0, size=USERS)
    users = np.concatenate([np.arange(USERS), random.choice(USERS, ROWS - USERS, p=share / share.sum())])
    items = np.concatenate(
        [np.arange(ITEMS), random.choice(ITEMS, ROWS - ITEMS, p=_power(random.permutation(ITEMS)))]
    )
    frame = pl.DataFrame({"user_id": users, "item_id": items}).select(
        pl.all().cast(pl.String),
        timestamp=pl.Series(random.integers(956_703_932, 1_046_454_590, ROWS)),
        line=pl.int_range(1, ROWS + 1),
    )
    raw = RawTables(frame, [Path("invented")])
    write_dataset(arrange(raw), folder, name="ml-1m-size", source=Source(reader="none"), licence="none")


def _power(rank):  # type: ignore[no-untyped-def]
    weights = 1 / (rank + 10.0)
    return weights / weights.sum()


def run(python: str, code: str, folder: str, runs: int) -> dict[str, object]:
    """What one process measured."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-c", code, folder, str(runs)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure every side in turn, compare the splits, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--before")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or f"{scratch}/ml-1m-size"
        if not options.data:
            invent(Path(folder))
        sides = {"setup": (sys.executable, ONE_SIDE), "plain": (sys.executable, PLAIN)}
        if options.before:
            sides["before"] = (options.before, ONE_SIDE)
        rounds = [{name: run(*side, folder, options.runs) for name, side in sides.items()} for _ in range(2)]
        card = json.loads((Path(folder) / "dataset.json").read_text())
    splits = {str(one["split"]) for found in rounds for one in found.values()}
    if len(splits) != 1:
        sys.exit(f"the sides divide the data differently: {splits}")
    every = {name: [s for found in rounds for s in found[name]["seconds"]] for name in sides}  # type: ignore[attr-defined]
    best = {name: round(min(found), 4) for name, found in every.items()}
    record = {
        "protocol": "CPU seconds (user and system) of one set-up in a process where one was made before; best of "
        f"{2 * options.runs}, two processes a side in alternation, one thread",
        "dataset": {
            "name": card["name"],
            **{k: card["counts"][k] for k in ("users", "items", "interactions")},
        },
        "split_digest": splits.pop(),
        "best_cpu_seconds": best,
        "share_of_plain": round(best["setup"] / best["plain"], 3),
        **({"share_of_before": round(best["setup"] / best["before"], 3)} if options.before else {}),
        "all_runs": {name: [round(s, 4) for s in found] for name, found in every.items()},
        "versions": {name: version(name) for name in ("recloom", "torch", "polars", "numpy", "pyarrow")},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 1),
        "date": date.today().isoformat(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
