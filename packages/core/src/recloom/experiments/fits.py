"""Work off the fits of a bench in processes of their own: what fails is kept apart, and the rest goes on."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .plan import Fit

ENDED = "its process ended"


@dataclass(frozen=True)
class FailedFit:
    """A fit that did not come to its end, and why."""

    fit: Fit
    why: str

    def __str__(self) -> str:
        return f"{self.fit}: {self.why} (all it printed: {self.fit.log})"


@dataclass
class _Worker:
    """A process that trains one fit after the other."""

    threads: int
    process: subprocess.Popen[str] | None = field(default=None, init=False)

    def do(self, fit: Fit) -> str | None:
        """Train and test; None, or why that failed."""
        if self.process is None:
            self.process = self._start()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(_job(fit)) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            failed: str | None = json.loads(answer)["failed"]
            return failed
        code, self.process = self.process.wait(), None
        if code == -signal.SIGKILL:
            return f"{ENDED} by SIGKILL, as it does where memory is short; fewer --jobs need less"
        return f"{ENDED} with status {code}"

    def _start(self) -> subprocess.Popen[str]:
        threads = {
            name: str(self.threads)
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
            if name not in os.environ
        }
        return subprocess.Popen(
            [sys.executable, "-m", "recloom.experiments.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | threads,
            start_new_session=True,  # Ctrl-C reaches this process, which ends its workers in turn
        )

    def end(self, *, now: bool = False) -> None:
        """Let the process end: it does where nobody talks to it; `now` lets a fit keep its last checkpoint."""
        if self.process is None:
            return
        if now:
            self.process.send_signal(signal.SIGTERM)
        else:
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def work_off(fits: Sequence[Fit], jobs: int, told: Callable[[Fit, str | None], None]) -> list[FailedFit]:
    """Train and test all fits, `jobs` at a time.

    Args:
        fits: in the order in which they begin.
        jobs: processes.
        told: called in this thread once a fit is tested, or failed for the reason that it is given.
    """
    todo: queue.SimpleQueue[Fit] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Fit, str | None] | BaseException] = queue.SimpleQueue()
    for fit in fits:
        todo.put(fit)
    workers = [_Worker(max(1, (os.cpu_count() or 1) // jobs)) for _ in range(min(jobs, len(fits)))]

    def work(worker: _Worker) -> None:
        try:
            while True:
                fit = todo.get_nowait()
                done.put((fit, worker.do(fit)))
        except queue.Empty:
            return
        except BaseException as error:  # told to the thread that waits
            done.put(error)

    failures = []
    for worker in workers:
        threading.Thread(target=work, args=(worker,), daemon=True).start()
    now = True
    try:
        for _ in fits:
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            fit, failed = found
            if failed is not None:
                failures.append(FailedFit(fit, failed))
            told(fit, failed)
        now = False
    finally:
        for worker in workers:
            worker.end(now=now)
    return failures


def _job(fit: Fit) -> dict[str, Any]:
    """What a worker needs to know."""
    return {
        "folder": str(fit.folder.absolute()),
        "log": str(fit.log.absolute()),
        "data": str(fit.data.absolute()),
        "model": fit.entry.model,
        "options": fit.entry.options,
        "loss": fit.entry.loss,
        "config": fit.config,
        "seed": fit.seed,
        "metrics": fit.metrics,
    }
