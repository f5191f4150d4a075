"""What evaluation costs: `MetricAccumulator` against a bare top-k loop, and against ranx.

    python benchmarks/evaluation.py [--repeats 15]

6,040 users x 3,416 items of random scores without ties, one relevant item per user and then twenty; nine
metrics at 10, those of ranks for warm, cold and tail items too; one thread; CPU time of the process, median
of the repeats. ranx runs in benchmarks/.env-ranx, which this script makes with venv and pip. Its Qrels and
Run are built (and by that sorted), and its functions compiled, outside the timing: once with every score,
which is what the others start from, and once with only the ten best of each user, so that nothing is left
to rank. It computes the six of the nine metrics it has.
Writes benchmarks/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are loaded

import numpy as np  # noqa: E402

HERE = Path(__file__).parent
SEED, USERS, ITEMS, BATCH, K = 0, 6040, 3416, 256, 10
METRICS = ("recall", "ndcg", "mrr", "map", "hit", "precision", "coverage", "novelty", "gini")
PEER_METRICS = {
    "recall": "recall",
    "ndcg": "ndcg",
    "mrr": "mrr",
    "map": "map",
    "hit": "hit_rate",
    "precision": "precision",
}
PEER = ("ranx==0.3.21", "numba==0.68.1", "numpy==2.4.6")
BLOCK = 604
"""Users per Run of ranx, so that its dictionaries of all scores fit in memory; the times are added up."""


def cpu_ms(run: Callable[[], object]) -> float:
    """CPU time of this process for one call, in milliseconds."""
    start = time.process_time()
    run()
    return 1000 * (time.process_time() - start)


def measure(targets_per_user: int, repeats: int, peer: Path) -> dict[str, object]:
    """Both comparisons for one number of relevant items per user."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    scores = torch.rand(USERS, ITEMS).argsort(1).float()  # every score once
    targets = torch.rand(USERS, ITEMS).argsort(1)[:, :targets_per_user].contiguous()
    meter, bare = _meter_loop(scores, targets), _bare_loop(scores, targets)
    per_user, _ = meter(), bare()  # warm
    ours, theirs = zip(*((cpu_ms(meter), cpu_ms(bare)) for _ in range(repeats)), strict=True)
    found = {"targets": targets_per_user, "meter_ms": np.median(ours), "topk_loop_ms": np.median(theirs)}
    found["times_topk_loop"] = found["meter_ms"] / found["topk_loop_ms"]
    for kind, times in _ask_peer(peer, scores, targets, per_user, repeats).items():
        found[kind] = times
        if kind.endswith("_ms"):
            found[kind.replace("_ms", "_times_meter")] = times / found["meter_ms"]
    rounded = {
        name: round(float(found[name]), 3) for name in found if name.endswith(("_ms", "_meter", "_loop"))
    }
    return found | rounded


def _meter_loop(scores, targets):  # type: ignore[no-untyped-def]
    """The whole of an evaluation as the test loop does it; returns the values per user."""
    import torch
    from recloom.metrics import ItemFacts, MetricAccumulator, core_metrics, item_segments

    metrics = {metric.name: metric for metric in core_metrics()}
    counts = torch.randint(0, 500, (ITEMS + 1,))
    counts[0] = 0
    facts = ItemFacts(num_items=ITEMS, popularity=counts)
    catalogue, users = torch.arange(1, ITEMS + 1)[None], torch.arange(USERS)

    def run() -> dict[str, np.ndarray]:
        meter = MetricAccumulator([f"{name}@{K}" for name in METRICS], metrics, facts, item_segments(counts))
        for rows in range(0, USERS, BATCH):
            part = slice(rows, rows + BATCH)
            meter.update(scores[part], targets[part], candidates=catalogue, users=users[part])
        meter.compute()
        return meter.per_user()

    return run


def _bare_loop(scores, targets):  # type: ignore[no-untyped-def]
    """The least one can do for ndcg and hit: torch.topk, labels gathered from a matrix made beforehand."""
    import torch

    labels = torch.zeros(USERS, ITEMS).scatter_(1, targets, 1.0)
    discount = 1 / torch.log2(torch.arange(2, K + 2).float())
    ideal = discount[: targets.shape[1]].sum()

    def run() -> tuple[float, float]:
        hits, gains = [], []
        for rows in range(0, USERS, BATCH):
            part = slice(rows, rows + BATCH)
            found = labels[part].gather(1, torch.topk(scores[part], K).indices)
            hits.append(found.amax(1))
            gains.append((found * discount).sum(1) / ideal)
        return torch.cat(hits).mean().item(), torch.cat(gains).mean().item()

    return run


def _ask_peer(python: Path, scores, targets, per_user, repeats: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    with tempfile.TemporaryDirectory() as folder:
        values = np.stack([per_user[f"{name}@{K}"] for name in PEER_METRICS], axis=1)
        for name, array in (("scores", scores.numpy()), ("targets", targets.numpy()), ("values", values)):
            np.save(Path(folder) / f"{name}.npy", array)
        command = [str(python), __file__, "--repeats", str(min(repeats, 5)), "--peer", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {str(key): float(value) for key, value in json.loads(done.stdout.splitlines()[-1]).items()}


def peer_main(folder: Path, repeats: int) -> dict[str, float]:
    """In ranx's own environment: its CPU time, and how far its values are from ours."""
    scores, targets, ours = (np.load(folder / f"{name}.npy") for name in ("scores", "targets", "values"))
    top = np.argpartition(scores, ITEMS - K, axis=1)[:, ITEMS - K :]
    ranked, theirs = _time_ranx(scores, targets, top, repeats)
    whole, again = _time_ranx(scores, targets, None, max(1, repeats // 2))
    apart = max(np.abs(theirs - ours).max(), np.abs(again - ours).max())
    return {"ranx_all_scores_ms": whole, "ranx_ten_best_ms": ranked, "ranx_max_difference": float(apart)}


def _time_ranx(
    scores: np.ndarray, targets: np.ndarray, top: np.ndarray | None, repeats: int
) -> tuple[float, np.ndarray]:
    """Milliseconds over all users, and values (users, metrics)."""
    from ranx import Qrels, Run, evaluate

    names = [f"{name}@{K}" for name in PEER_METRICS.values()]
    columns = [str(item) for item in range(ITEMS)]
    total, values = 0.0, []
    for start in range(0, USERS, BLOCK if top is None else USERS):
        rows = range(start, min(USERS, start + (BLOCK if top is None else USERS)))
        qrels = Qrels({f"u{u:04}": {columns[c]: 1 for c in targets[u]} for u in rows})
        kept = (range(ITEMS) for _ in rows) if top is None else (top[u] for u in rows)
        pairs = zip(rows, kept, strict=True)
        run = Run({f"u{u:04}": {columns[c]: float(scores[u, c]) for c in cs} for u, cs in pairs})
        result = evaluate(qrels, run, names, return_mean=False, save_results_in_run=False)  # compiles
        relevant = targets.shape[1]
        result[f"map@{K}"] = result[f"map@{K}"] * relevant / min(relevant, K)  # ranx divides by all of them
        values.append(np.stack([result[name] for name in names], axis=1))
        total += np.median(
            [
                cpu_ms(lambda q=qrels, r=run: evaluate(q, r, names, save_results_in_run=False))
                for _ in range(repeats)
            ]
        )
    return float(total), np.concatenate(values)


def peer_python() -> Path:
    """The interpreter of ranx's environment, made on first use."""
    home = HERE / ".env-ranx"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEER], check=True)
    return python


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(peer_main(options.peer, options.repeats)))
        return
    peer = peer_python()
    record = {
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "threads": 1,
        "seed": SEED,
        "users": USERS,
        "items": ITEMS,
        "batch": BATCH,
        "metrics": [f"{name}@{K}" for name in METRICS],
        "ranx_metrics": [f"{name}@{K}" for name in PEER_METRICS.values()],
        "repeats": options.repeats,
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in ("recloom", "torch", "numpy")},
        "peer_versions": dict(line.split("==") for line in PEER),
        "results": [measure(count, options.repeats, peer) for count in (1, 20)],
    }
    text = json.dumps(record, indent=2) + "\n"
    (HERE / "evaluation.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
