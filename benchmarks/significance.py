"""How often do the tests of `recloom compare` find a difference where there is none, and do its intervals cover?

    python benchmarks/significance.py [--data ../shared/data]
    python benchmarks/significance.py --train 3 4 5      trains these seeds alone, for instance in a second process

Six SASRec runs on ml-latest-small (configs/ml-latest-small/sasrec.yaml, seeds 0 to 5; leave-last-out, full
catalogue, history masked, ties against the model), kept in benchmarks/.data and not trained again. Reported:

    pairs     of the 15 pairs of these runs, how many differ at p <= .05 by sign flips over users, which is what
              a comparison of one run a side would say
    splits    p of the ten ways to part the six runs into three and three
    simulated 2,000 comparisons each of 3 against 3 and 5 against 5 runs of two equal methods: users drawn with
              replacement from the real ones, each run with a real run's residuals in a random order of runs and a seed
              effect of the variance found in the six; share of p <= .05, and share of intervals that hold the truth

Writes significance.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from datetime import date
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".data" / "significance"
SEEDS, METRIC, TRIALS = range(6), "ndcg@10", 2000


def runs(data: Path, seeds: Iterable[int] = SEEDS) -> np.ndarray:
    """(S, U) NDCG of each run and user."""
    import recloom
    from recloom.cli.main import main as recloom_main
    from recloom.evaluation.results import read_per_user

    prepared = FOLDER / "ml-latest-small"
    if not (prepared / "dataset.json").is_file():
        recloom_main(
            ["data", "prepare", "movielens", "--path", str(data / "ml-latest-small"), "--out", str(prepared)]
        )
    columns = []
    for seed in seeds:
        run = FOLDER / f"sasrec-{seed}"
        if not (run / "metrics.json").is_file():
            words = [
                "fit",
                f"--config={HERE.parent}/configs/ml-latest-small/sasrec.yaml",
                f"--data.path={prepared}",
                f"--run={run}",
                f"--seed_everything={seed}",
                "--trainer.enable_progress_bar=false",
            ]
            recloom_main(words if not (run / "checkpoints").is_dir() else [*words, "--overwrite"])
            recloom.load(run).test()
        table = read_per_user(run).sort("user_id", "request")
        columns.append(table[METRIC].to_numpy())
    return np.stack(columns)


def simulate(values: np.ndarray, count: int, random: np.random.Generator) -> dict[str, float]:
    """Error rate and coverage of 2,000 comparisons of `count` against `count` runs of two equal methods."""
    from recloom.evaluation.significance import seeds_difference, seeds_interval

    number, users = values.shape
    means, centre = values.mean(axis=1), values.mean(axis=0)
    noise = (values - centre - (means - means.mean())[:, None]) * np.sqrt(number / (number - 1))
    of_noise = (noise**2).sum() / number / (users - 1) / users
    luck = np.sqrt(max(0.0, means.var(ddof=1) - of_noise))

    def drawn(chosen: np.ndarray) -> np.ndarray:
        which = random.integers(0, number, (count, users))
        return centre[chosen] + luck * random.normal(size=(count, 1)) + noise[which, chosen]

    p, covered, covered_mean = [], [], []
    for _ in range(TRIALS):
        chosen = random.integers(0, users, users)
        ours, theirs = drawn(chosen), drawn(chosen)
        found, mean = seeds_difference(ours, theirs), seeds_interval(ours)
        p.append(found.p_value)
        covered.append(found.low <= 0 <= found.high)
        covered_mean.append(mean.low <= centre.mean() <= mean.high)
    return {
        "p <= .05": float(np.mean(np.array(p) <= 0.05)),
        "interval of the difference holds 0": float(np.mean(covered)),
        "interval of a mean holds the truth": float(np.mean(covered_mean)),
        "variance of seeds beyond single users": float(luck**2),
        "variance of a mean by single users' chance": float(of_noise),
    }


def main() -> None:
    from recloom.evaluation.significance import paired_difference, seeds_difference

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--train", nargs="+", type=int, choices=list(SEEDS), metavar="SEED")
    given = parser.parse_args()
    if given.train:
        runs(given.data, given.train)
        return
    values, started = runs(given.data), time.process_time()
    random = np.random.default_rng(0)
    pairs = [paired_difference(values[a], values[b]).p_value for a, b in combinations(SEEDS, 2)]
    splits = {}
    for half in combinations(SEEDS, 3):
        if 0 in half:
            rest = [seed for seed in SEEDS if seed not in half]
            splits[f"{half} against {tuple(rest)}"] = seeds_difference(
                values[list(half)], values[rest]
            ).p_value
    result = {
        "what": __doc__.split("\n")[0],
        "protocol": "ml-latest-small, leave-last-out, full catalogue, history masked, ties against the model",
        "users": values.shape[1],
        "means of the six runs": values.mean(axis=1).round(5).tolist(),
        "pairs at p <= .05 by sign flips over users": f"{sum(p <= 0.05 for p in pairs)} of {len(pairs)}",
        "p of the ten splits": {name: round(p, 3) for name, p in splits.items()},
        "simulated": {f"{n} against {n}": simulate(values, n, random) for n in (3, 5)},
        "seconds of simulation": round(time.process_time() - started, 1),
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("recloom", "torch", "numpy")},
    }
    text = json.dumps(result, indent=2)
    (HERE / "significance.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
