"""What a comparison of tested runs found: a cell for each method and metric, what each cost, and how to read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..metrics.segments import FLOOR, LEGEND, OF_REQUESTS, USERS_LEGEND
from ..schemas import SplitSpec
from ..terminal import visible
from .methods import Method

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from .tables import ModelTable

WIDTH = 120
"""Columns of a comparison as text."""
FEW_SEEDS = "Of two seeds the spread between trainings is hardly known, so intervals are wide: three or more tell more."
NOT_TRAINED = "–: not trained on these items, which the model cannot score"


@dataclass(frozen=True)
class Cell:
    """One metric of one run, and how it differs from the reference run (None for that run itself)."""

    run: str
    """The folder of the run; of several seeds, of the first."""
    model: str
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    higher_is_better: bool
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    """Of the methods: by t over users and seeds, or by sign flips over users where neither side is trained; None
    where a trained side has one run only, since that tells of this run and not of its method."""
    p_holm: float | None = None
    """The same, adjusted for every test of this comparison."""
    seeds: int = 1
    """How many runs the mean is over."""
    trained: bool = True
    """Whether the run can tell items of the metric's segment apart; where not, tables show a dash."""


@dataclass(frozen=True)
class FitCost:
    """What the training of one method took, as its runs recorded it: means over its seeds, None where not recorded."""

    cpu_seconds: float | None
    parameters: int | None
    epochs: float | None


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs of one protocol; `cells` by method in the order given, then by metric. It prints as its table.

    In a notebook it is shown as a table of models; `models` is that table, for Markdown, LaTeX and CSV too.
    """

    protocol: dict[str, Any]
    reference: str
    cells: list[Cell]
    interrupted: list[str] = field(default_factory=list)
    """Runs whose fit did not come to its end; an asterisk marks them in the table."""
    comparisons: int = 0
    """Tests of this comparison: over so many `p_holm` is adjusted."""
    methods: list[Method] = field(default_factory=list)
    """Who is compared, in the order of `cells`."""
    floor: dict[str, float | None] = field(default_factory=dict)
    """The values of `Popularity` on the same requests, by metric; empty where it is one of the runs."""
    remarks: list[str] = field(default_factory=list)
    """What is to be known of the requests before a number is read."""
    tested: str | None = None
    """The metric that p-values are of; None where every one has its own, in the long form."""
    costs: dict[str, FitCost] = field(default_factory=dict)
    """By the first run of each method."""
    names: dict[str, str] = field(default_factory=dict)
    """What methods are called where not by their models, by the first run of each."""

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=WIDTH, color_system=None)
        with console.capture() as captured:
            self.show(console)
        return "\n".join([*(line.rstrip() for line in captured.get().splitlines()), *self.notes()])

    def _repr_html_(self) -> str:
        return self.models.to_html()

    @property
    def models(self) -> ModelTable:
        """A row for each model."""
        from .tables import ModelTable

        return ModelTable({"": self})

    def show(self, console: Console) -> None:
        """Print the table, models as rows, or in the long form metric by metric."""
        from .tables import long_table, print_whole

        if self.tested is None:
            print_whole(console, long_table(self))
        else:
            self.models.show(console)

    def labels(self) -> dict[str, str]:
        """What each method is called: its name, its model, or its folder where two have one model; then marks."""
        seeds = {cell.run: f" ({cell.seeds} seeds)" if cell.seeds > 1 else "" for cell in self.cells}
        broken = {method.runs[0] for method in self.methods if set(method.runs) & set(self.interrupted)}
        return {
            run: name + seeds[run] + ("*" if run in broken else "") for run, name in self._called().items()
        }

    def _called(self) -> dict[str, str]:
        models = {cell.run: cell.model for cell in self.cells}
        alone = len(set(models.values())) == len(models)
        return {run: self.names.get(run, model if alone else run) for run, model in models.items()}

    def to_frame(self) -> pl.DataFrame:
        """One row for each run and metric."""
        import polars as pl

        return pl.DataFrame([asdict(cell) for cell in self.cells], infer_schema_length=None)

    def to_json(self) -> str:
        """The protocol, the reference run and all cells."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def notes(self) -> list[str]:
        """Lines to print below the table: what the numbers hold for, and how they were compared."""
        protocol = ", ".join(
            f"{key} {self.protocol[key]}"
            for key in ("dataset", "part", "candidates", "seen", "users", "drawn_from", "added")
            if self.protocol.get(key)
        )
        protocol += f", split {SplitSpec.model_validate(self.protocol['split'])}, ties against the model"
        if self.protocol.get("new_users") == "dropped":
            protocol += ", requests without history left out"
        segments = {cell.metric.partition("/")[2] for cell in self.cells}
        parts = [LEGEND] if segments - {"", *OF_REQUESTS} else []
        parts += [USERS_LEGEND] if segments & set(OF_REQUESTS) else []
        parts += [NOT_TRAINED] if any(not cell.trained for cell in self.cells) else []
        parts += [FLOOR] if self.floor else []
        parts += self.remarks
        broken = [
            f"* {run}: training was interrupted, this is the state it had reached."
            for run in self.interrupted
        ]
        return [visible(line) for line in (protocol, *self._how(), *parts, *broken)]

    def _how(self) -> list[str]:
        """How intervals, differences and p-values were made, and which of them say nothing of a method."""
        if not any(cell.difference is not None for cell in self.cells):
            return ["Intervals over users. Differences are given for metrics with a value per user only."]
        over = "users, and over seeds where there are several" if self._seeded() else "users"
        if self.tested is None:
            how = [f"Intervals over {over}; difference to {self.reference}, paired by user."]
        else:
            base = self._called()[self.reference]
            how = [
                f"±: the wider half of the 95 % interval over {over}. "
                f"The difference of {self.tested} is to {base}, paired by user."
            ]
            if any(cost.cpu_seconds is not None for cost in self.costs.values()):
                how.append("CPU seconds of training, and epochs, are means over the seeds.")
        if single := [method.runs[0] for method in self.methods if not method.settled]:
            names = ", ".join(self.names.get(run, run) for run in single[:3]) + (
                f" and {len(single) - 3} more" if len(single) > 3 else ""
            )
            how.append(
                f"One trained run of {names}: a difference is one between trained runs, whose seeds alone may make it, "
                "so no p-value of the methods is given. Train several seeds (--seed_everything 1, 2, ...) and compare "
                "all runs."
            )
        if any(method.trained and len(method.runs) == 2 for method in self.methods):
            how.append(FEW_SEEDS)
        if self.comparisons:
            number = f"{self.comparisons} comparison{'' if self.comparisons == 1 else 's'}"
            how.append(f"p is corrected by Holm's method over the {number} of {self.tested or 'this table'}.")
        return how

    def _seeded(self) -> bool:
        return any(len(method.runs) > 1 for method in self.methods)
