"""What SASRec's shipped default reaches on ml-1m in 150 CPU-seconds of training, one thread.

    python benchmarks/sasrec_budget.py        writes sasrec_budget.json beside this file

`recloom fit --config configs/ml-1m/sasrec.yaml` without validation, stopped after 150 CPU seconds, then
`recloom test`: leave-last-out, full catalogue, history masked, ties against the model. Three seeds.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from datetime import date
from importlib.metadata import version

from sasrec_speed import DATA, HERE, prepare_data

SECONDS, SEEDS = 150, (0, 1, 2)


def main() -> None:
    from recloom import load
    from recloom.fitting import run_command

    sys.path.insert(0, str(HERE))
    prepare_data()
    rows = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            run = f"{folder}/run"
            run_command(
                ["fit", f"--config={HERE.parent}/configs/ml-1m/sasrec.yaml", f"--data.path={DATA}", f"--run={run}",
                 "--trainer.limit_val_batches=0", f"--seed_everything={seed}", "--trainer.max_epochs=1000",
                 "--trainer.callbacks+=sasrec_clock.Budget", f"--trainer.callbacks.seconds={SECONDS}",
                 "--last.every_n_train_steps=10", "--trainer.enable_progress_bar=false"]
            )  # fmt: skip
            found = load(run)
            metrics = found.test().metrics
            row = {"seed": seed, "epochs": found.record.epochs, "steps": found.record.steps}
            rows.append(
                row
                | {n: metrics[n].model_dump(include={"mean", "low", "high"}) for n in ("ndcg@10", "hit@10")}
            )
            print(rows[-1], flush=True)
    result = {
        "what": __doc__.strip().splitlines()[0],
        "protocol": "leave-last-out, full catalogue, history masked, ties against the model",
        "mean test ndcg@10": statistics.mean(row["ndcg@10"]["mean"] for row in rows),  # type: ignore[index]
        "rows": rows,
        "machine": {"cores": os.cpu_count(), "threads": 1},
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("recloom", "torch", "lightning")},
    }
    (HERE / "sasrec_budget.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
