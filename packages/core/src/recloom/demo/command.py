"""`recloom demo`: prepare data, train and test what is installed, export the best, and ask the exported file."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from ..command import command
from ..errors import RecloomError
from ..terminal import plain

MARK = ".recloom-demo"
"""A file that says: this folder was made by the demo, which may replace its `data` and `runs`."""


@command("demo")
def demo(
    data: Path | None = None, *, out: Path = Path("demo"), max_minutes: float = 3.0, threads: int = 1
) -> None:
    """Train and compare recommenders, export the best to one file, and ask that file.

    Args:
        data: a prepared dataset, or raw files in a format that `recloom data prepare auto` recognises; by
            default an invented dataset of films.
        out: folder to write. What an earlier demo left in it is replaced; another folder is not touched.
        max_minutes: training of one model stops after this time at the latest.
        threads: that torch computes with; the models are small, and more than one is slower on a busy machine.
    """
    make_room(out, data)
    import torch

    from . import steps

    torch.set_num_threads(threads)
    folder = steps.prepared(data, out)
    tried = [steps.attempt(one, folder, out / "runs" / one.model, max_minutes) for one in steps.entrants()]
    for package in steps.not_installed():
        print(f"{package:22}left out: needs `pip install {package}`", flush=True)
    tested = steps.best_first([pair for pair in tried if pair is not None])
    if not tested:
        raise RecloomError(f"{folder}: none of the models could be trained; the reasons stand above")
    steps.show(tested)
    runs = [run for run, _ in tested]
    user = runs[0].catalog.users["user_id"][0]
    best = steps.exported(runs, out / "model.onnx")
    if best:
        steps.ask(best, out / "model.onnx", user)
    recloom = "recloom" if shutil.which("recloom") else shlex.quote(sys.argv[0])
    print(f"\nNext:\n  {recloom} compare {' '.join(str(run.folder) for run in runs[:2])}")
    print(
        f"  {recloom} recommend {runs[0].folder} --users {shlex.quote(str(plain(user)))}   (after their whole history)"
    )


def make_room(out: Path, data: Path | None) -> None:
    """Make `out`, or remove what an earlier demo left in it. Raises RecloomError for a folder of another kind."""
    if data is not None and out.resolve() in (data.resolve(), *data.resolve().parents):
        raise RecloomError(
            f"{data} lies in {out}, which the demo replaces. Choose another folder with --out."
        )
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RecloomError(f"{out} exists and was not made by the demo. Choose another folder with --out.")
    for name in ("data", "runs"):
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
