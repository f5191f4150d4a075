"""`recloom bench` as words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..command import command
from ..errors import RecloomError
from .plan import listed


@command("bench")
def bench_command(
    file: Path | None = None,
    *,
    models: str | None = None,
    data: str | None = None,
    seeds: str | None = None,
    baseline: str | None = None,
    metrics: str | None = None,
    out: Path | None = None,
    jobs: int = 1,
    overwrite: bool = False,
) -> None:
    """Train and test models on datasets with several seeds, and compare them in one table.

    recloom bench --models Popularity,ItemKNN,SASRec --data data/movies

    A second call goes on where the first one stopped, and repeats no finished fit. The runs lie in
    OUT/DATA/MODEL/seed-N; the table is also written to OUT, as Markdown, LaTeX and CSV.

    Args:
        file: YAML with models, data, seeds, baseline, metrics and config, instead of words or beside them.
        models: names of recommenders or paths of config files, separated by commas.
        data: folders of prepared datasets, separated by commas.
        seeds: separated by commas, by default 0,1,2; a model that is not trained takes the first alone.
        baseline: the model that the others are compared with; by default the first.
        metrics: what is tested, separated by commas; the first has the p-values.
        out: folder to write, by default bench/NAME, after the file or the data.
        jobs: fits at a time, each in a process of its own.
        overwrite: train anew what was trained from something else under the same name.
    """
    from rich.console import Console

    from .curves import draw
    from .many_fits import run_bench
    from .plan import make_spec, name_of, read_yaml

    given: dict[str, Any] = {} if file is None else read_yaml(file)
    words = {"models": models, "data": data, "seeds": seeds, "metrics": metrics}
    given |= {key: listed(value) for key, value in words.items() if value is not None}
    given |= {} if baseline is None else {"baseline": baseline}
    missing = [f"--{key}" for key in ("models", "data") if key not in given]
    if missing:
        raise RecloomError(
            f"bench needs {' and '.join(missing)}, or a file that says it, such as\n"
            "recloom bench --models Popularity,ItemKNN,SASRec --data data/movies"
        )
    spec = make_spec(given, "bench" if file is None else str(file))
    name = "-".join(map(name_of, spec.data)) if file is None else file.stem
    found = run_bench(spec, out or Path("bench") / name, jobs=jobs, overwrite=overwrite, quiet=False)
    print()
    found.table.show(Console(highlight=False))
    print("\n".join(found.notes()))
    print(f"wrote {found.folder}/table.md, table.tex, table.csv, results.json{draw(found)}")
    if found.failures:
        raise SystemExit(1)
