"""The learning curves of a bench: validation by epoch, a line for each model, its seeds together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from .many_fits import Bench

FILE = "curves.svg"


def curve(run: Path) -> tuple[str, pl.DataFrame] | None:
    """What validation measured after each epoch of a run: the metric, and a table of `epoch` and `value`.

    The metric is the one that chose the best checkpoint. None where nothing was validated. A run that was interrupted
    has several logs; an epoch that was repeated counts as it was repeated.
    """
    import polars as pl
    import yaml

    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    metric = str(config["checkpoint"]["monitor"])
    logs = sorted(
        (run / "logs").glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])
    )
    tables = [pl.read_csv(path, glob=False, infer_schema_length=None) for path in logs if path.stat().st_size]
    tables = [table.select("epoch", value=metric).drop_nulls() for table in tables if metric in table.columns]
    if not tables:
        return None
    return metric, pl.concat(tables).unique("epoch", keep="last").sort("epoch")


def draw(bench: Bench) -> str:
    """Write curves.svg; returns what to say of it. Without matplotlib nothing is drawn, and that is said."""
    import polars as pl

    panels: dict[str, dict[str, Any]] = {}
    metric = ""
    for name, found in bench.comparisons.items():
        labels = found.labels()
        for method in found.methods:
            seeds = [one for run in method.runs if (one := curve(Path(run))) is not None]
            if seeds:
                metric = seeds[0][0]
                joined = pl.concat([table for _, table in seeds])
                panels.setdefault(name, {})[labels[method.runs[0]]] = joined.group_by("epoch").agg(
                    pl.col("value").mean(), low=pl.col("value").min(), high=pl.col("value").max()
                ).sort("epoch")  # fmt: skip
    if not panels:
        return ""
    try:
        from matplotlib import style
        from matplotlib.figure import Figure
    except ImportError:
        return "; no learning curves, which need matplotlib: pip install matplotlib"
    with style.context({"svg.fonttype": "none", "text.parse_math": False}):
        figure = Figure(figsize=(1 + 4.5 * len(panels), 3.6), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (name, lines) in zip(axes, panels.items(), strict=True):
            for label, table in lines.items():
                epochs = table["epoch"].to_numpy() + 1
                axis.plot(epochs, table["value"].to_numpy(), label=label)
                axis.fill_between(
                    epochs, table["low"].to_numpy(), table["high"].to_numpy(), alpha=0.2, linewidth=0
                )
            axis.set(title=name, xlabel="epoch (line: mean of the seeds, band: their range)", ylabel=metric)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
            axis.legend(frameon=False)
        figure.savefig(bench.folder / FILE, metadata={"Date": None})
    return f", {FILE}"
