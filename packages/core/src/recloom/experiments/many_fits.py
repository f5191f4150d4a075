"""`recloom bench`: train and test models on datasets with several seeds, and put them in one table."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RecloomError, Terminated
from ..io import LOCK, try_lock, write_text
from ..progress import Progress
from ..terminal import visible
from .fits import FailedFit, work_off
from .plan import BenchSpec, Fit, changed, fits_of, keep_asked, make_spec, name_of, refuse_changed

if TYPE_CHECKING:
    from ..evaluation.comparison import Comparison
    from ..evaluation.tables import ModelTable

TABLES = {"markdown": "table.md", "latex": "table.tex", "csv": "table.csv"}
RESULTS = "results.json"


@dataclass(frozen=True, repr=False)
class Bench:
    """A finished bench. It prints as its table, and a notebook shows it so."""

    folder: Path
    comparisons: dict[str, Comparison]
    """By the name of the dataset."""
    failures: list[FailedFit]
    """Fits that did not come to their end; their models have fewer seeds, or no row."""

    @property
    def table(self) -> ModelTable:
        """Models as rows, for the terminal, Markdown, LaTeX and CSV."""
        from ..evaluation.tables import ModelTable

        one = len(self.comparisons) == 1
        return ModelTable({"" if one else name: found for name, found in self.comparisons.items()})

    def notes(self) -> list[str]:
        """What the numbers hold for, and what is missing."""
        said = [note for found in self.comparisons.values() for note in found.notes()]
        return [*dict.fromkeys(said), *(visible(f"failed: {one}") for one in self.failures)]

    def __repr__(self) -> str:
        return "\n".join([repr(self.table), *self.notes()])

    def _repr_html_(self) -> str:
        return self.table.to_html()


def bench(
    models: Sequence[str | Mapping[str, Any]],
    data: str | Path | Sequence[str | Path],
    seeds: Sequence[int] = (0, 1, 2),
    *,
    out: str | Path,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> Bench:
    """Train and test every model on every dataset with every seed, and compare them.

    A second call with the same `out` trains what is missing: a fit that was interrupted goes on where it stopped, and
    one that is finished is not repeated.

    Args:
        models: names of recommenders, paths of config files, or mappings with `name`, `model`, `options`, `loss` and
            `config`.
        data: folders of prepared datasets.
        seeds: of everything random; what is not trained takes the first alone.
        out: folder of the runs, `OUT/DATA/MODEL/seed-N`, and of the table in Markdown, LaTeX, CSV and JSON.
        baseline: the name of the model that the others are compared with; by default the first.
        metrics: what is tested; the first has the p-values.
        config: what a config file of `recloom fit` may hold, for every fit.
        jobs: fits at a time, each in a process of its own.
        overwrite: train anew what was trained from something else under the same name.

    Raises:
        RecloomError: for what there is not, and where no fit came to its end.
    """
    folders = [data] if isinstance(data, str | Path) else data
    given = {
        "models": [one if isinstance(one, str) else dict(one) for one in models],
        "data": [str(one) for one in folders],
        "seeds": list(seeds),
        "baseline": baseline,
        "metrics": None if metrics is None else list(metrics),
        "config": dict(config or {}),
    }
    return run_bench(make_spec(given), Path(out), jobs=jobs, overwrite=overwrite)


def run_bench(
    spec: BenchSpec, out: Path, *, jobs: int = 1, overwrite: bool = False, quiet: bool = True
) -> Bench:
    """The bench of a specification; unless `quiet`, a line for each fit that ends."""
    if jobs < 1:
        raise RecloomError(f"--jobs must be at least 1, found {jobs}.")
    fits = fits_of(spec, out)
    if len(fits) < 2 * len(spec.data):
        raise RecloomError(
            "bench: expected two models or more, or one with several seeds; train one with recloom fit."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = try_lock(out / LOCK)
    except OSError as error:
        raise RecloomError(f"--out {out} cannot be written ({error.strerror}). Choose another.") from error
    if held is None:
        raise RecloomError(f"another bench is writing {out}. Wait for it, or choose another --out.")
    try:
        if overwrite:
            for fit in filter(changed, fits):
                _forget(fit)
        refuse_changed(fits)
        return _run(spec, out, fits, jobs, quiet)
    except KeyboardInterrupt as stop:
        word = "terminated" if isinstance(stop, Terminated) else "interrupted"
        raise type(stop)(f"{word}; the same command goes on where it stopped") from None
    finally:
        held.release()


def _run(spec: BenchSpec, out: Path, fits: Sequence[Fit], jobs: int, quiet: bool) -> Bench:
    todo = [fit for fit in fits if not _tested(fit)]
    if not quiet and len(todo) < len(fits):
        print(f"{len(fits) - len(todo)} of {len(fits)} fits are tested already", flush=True)
    for fit in todo:
        keep_asked(fit)
    number = len(fits) - len(todo)
    with Progress("fits", len(fits), number) as bar:

        def told(fit: Fit, failed: str | None) -> None:
            nonlocal number
            number += 1
            bar.advance(1, int(failed is not None))
            if not quiet:
                print(
                    visible(f"{number:{len(str(len(fits)))}}/{len(fits)}  {fit}: {failed or _how(fit)}"),
                    flush=True,
                )

        failures = work_off(todo, jobs, told) if todo else []
    found = Bench(out, compared(spec, fits, failures), failures)
    _write(found)
    return found


def _tested(fit: Fit) -> bool:
    """Whether it is trained and tested in all that is asked for."""
    from ..evaluation import METRICS_FILE, read_results
    from ..run_folder import finished

    if not (finished(fit.folder) and (fit.folder / METRICS_FILE).is_file()):
        return False
    return set(fit.metrics or ()) <= set(read_results(fit.folder).metrics)


def _how(fit: Fit) -> str:
    """What a fit took, and what it reached."""
    from ..evaluation import read_results
    from ..evaluation.methods import read_record

    record, results = read_record(fit.folder), read_results(fit.folder)
    metric = next(iter(fit.metrics or results.metrics))
    took = "" if record is None else f", {record.seconds:,.0f} s"
    epochs = f", epochs: {record.epochs}" if record is not None and record.epochs else ""
    return f"{metric} {results.metrics[metric]}{epochs}{took}"


def compared(spec: BenchSpec, fits: Sequence[Fit], failures: Sequence[FailedFit]) -> dict[str, Comparison]:
    """The comparison of each dataset with two runs or more, by the name of the dataset."""
    from ..evaluation.compare import compare

    failed = {one.fit.folder for one in failures}
    found = {}
    for data in spec.data:
        mine = [fit for fit in fits if fit.data == Path(data) and fit.folder not in failed]
        runs = {
            fit.folder: fit.entry.name for fit in sorted(mine, key=lambda one: spec.models.index(one.entry))
        }
        base = next((run for run, name in runs.items() if name == spec.reference), None)
        if len(runs) < 2 or base is None:
            continue
        compared = compare(list(runs), spec.metrics, reference=base)
        compared.names.update({str(run): name for run, name in runs.items()})
        found[name_of(data)] = compared
    if not found:
        told = "".join(f"\n  {one}" for one in failures)
        raise RecloomError(f"bench: nothing can be compared, since these failed:{told}")
    return found


def _write(found: Bench) -> None:
    """The table in every format, and all cells as JSON."""
    for kind, name in TABLES.items():
        write_text(found.folder / name, found.table.to(kind))
    record = {
        "comparisons": {name: asdict(one) for name, one in found.comparisons.items()},
        "failures": {str(one.fit): one.why for one in found.failures},
    }
    write_text(
        found.folder / RESULTS, json.dumps(record, indent=2, ensure_ascii=False, default=os.fspath) + "\n"
    )


def _forget(fit: Fit) -> None:
    """Remove what was trained from something else."""
    shutil.rmtree(fit.folder, ignore_errors=True)
    for file in (fit.asked_file, fit.log):
        file.unlink(missing_ok=True)
