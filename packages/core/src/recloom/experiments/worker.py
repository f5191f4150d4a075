"""One worker of a bench, `python -m recloom.experiments.worker`: trains and tests a fit for each line of JSON.

It answers with a line of JSON once a fit is tested or failed; what the fit printed goes to its log. Where its standard
input ends, nobody waits for it any more, and it ends too, whatever it does.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from ..errors import RecloomError


def train_and_test(job: dict[str, Any]) -> None:
    """Fit and test, unless that was done; a fit that was interrupted goes on after its last checkpoint."""
    from ..evaluation import METRICS_FILE, read_results
    from ..fitting.fit import fit, run_command
    from ..run_folder import CHECKPOINTS, finished
    from ..runs import load

    folder, wanted = Path(job["folder"]), job["metrics"]
    if not finished(folder):
        if (folder / CHECKPOINTS / "last.ckpt").is_file():
            run_command(["fit", "--run", str(folder), "--ckpt_path", "last"])
        else:
            options, loss, config = job["options"], job["loss"], job["config"]
            fit(job["data"], job["model"], options, loss=loss, run=folder, seed=job["seed"], config=config)
    if (folder / METRICS_FILE).is_file() and set(wanted or ()) <= set(read_results(folder).metrics):
        return
    run = load(folder, data=job["data"])
    if wanted:
        run.module.metrics = list(wanted)
    run.test()


def main() -> None:
    """Work off what comes in, one fit after the other."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    while True:
        job = json.loads(jobs.get())
        with open(job["log"], "a", encoding="utf-8") as log:  # its number stands for 1 and 2 from here on
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        failed = None
        try:
            train_and_test(job)
        except RecloomError as error:
            failed = str(error)
        except Exception as error:
            failed = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(json.dumps({"failed": failed}) + "\n")
        answers.flush()


def _read(jobs: queue.Queue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
