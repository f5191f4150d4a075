"""Tables of comparisons: models as rows, for the terminal, a notebook, Markdown, LaTeX and CSV; and the long form."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..terminal import plain
from .comparison import Cell, Comparison

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.table import Table

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "<": "$<$", ">": "$>$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--",
}  # fmt: skip
FLOOR_NAME = "Popularity (floor)"


@dataclass(frozen=True)
class Shown:
    """One place of a table as text, and whether it is the best of its column."""

    text: str
    best: bool = False


class ModelTable:
    """A row for each model and a column for each metric: the mean, and the wider half of its 95 % interval behind ±.

    Behind the first metric stands the difference to the reference with half of its interval, and p where it was tested;
    at the end what training took. It prints as text, and a notebook shows it as HTML.

    Args:
        comparisons: by the name of their dataset, of the same metrics; "" where there is one.
    """

    def __init__(self, comparisons: Mapping[str, Comparison]) -> None:
        self.comparisons = dict(comparisons)
        self._first = next(iter(self.comparisons.values()))
        self._metrics = list(
            dict.fromkeys(cell.metric for one in self.comparisons.values() for cell in one.cells)
        )
        self._columns = list(self._chosen_columns())

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=120, color_system=None)
        with console.capture() as captured:
            self.show(console)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def _repr_html_(self) -> str:
        return self.to_html()

    def _chosen_columns(self) -> Iterator[str]:
        cells = [cell for one in self.comparisons.values() for cell in one.cells]
        costs = [cost for one in self.comparisons.values() for cost in one.costs.values()]
        for place, metric in enumerate(self._metrics):
            yield metric
            if place == 0 and any(cell.difference is not None for cell in cells if cell.metric == metric):
                yield "difference"
            if place == 0 and any(one.comparisons for one in self.comparisons.values()):
                yield "p (Holm)"
        for name, column in (("cpu_seconds", "CPU s"), ("parameters", "parameters")):
            if any(getattr(cost, name) is not None for cost in costs):
                yield column

    def rows(self, comparison: Comparison) -> list[tuple[str, list[Shown]]]:
        """The name of each model, and an entry for each of the columns."""
        labels = comparison.labels()
        cells = {(cell.run, cell.metric): cell for cell in comparison.cells}
        found = [(labels[run], self._entries(comparison, run, cells)) for run in labels]
        if comparison.floor:
            low = {metric: comparison.floor.get(metric) for metric in self._metrics}
            entries = [
                Shown("" if (value := low.get(column)) is None else f"{value:.4f}")
                for column in self._columns
            ]
            found.append((FLOOR_NAME, entries))
        return found

    def _entries(
        self, comparison: Comparison, run: str, cells: Mapping[tuple[str, str], Cell]
    ) -> list[Shown]:
        tested, cost = cells[run, self._metrics[0]], comparison.costs.get(run)
        reference = run == comparison.reference
        other = {
            "difference": "reference" if reference else difference(tested),
            "p (Holm)": "" if tested.p_holm is None else p_value(tested.p_holm),
            "CPU s": "" if cost is None or cost.cpu_seconds is None else _number(cost.cpu_seconds),
            "parameters": "" if cost is None or cost.parameters is None else f"{cost.parameters:,}",
        }
        return [
            Shown(other[column])
            if column in other
            else Shown(
                value(cell := cells[run, column]),
                cell.trained and cell.mean == best(comparison.cells, column),
            )
            for column in self._columns
        ]

    def show(self, console: Console) -> None:
        """Print it, in several tables one below the other where the terminal is too narrow for all columns."""
        for name, comparison in self.comparisons.items():
            if name:
                console.print(plain(name, 200), style="bold")
            rows = self.rows(comparison)
            for number, columns in enumerate(self._blocks(rows, console.width)):
                if number:
                    console.print()
                print_whole(console, self._block(rows, columns))

    def _blocks(self, rows: Sequence[tuple[str, list[Shown]]], width: int) -> list[list[int]]:
        """Places of the columns that stand side by side."""
        blocks: list[list[int]] = [[]]
        names = max(len(name) for name, _ in rows)
        used = names
        for place, column in enumerate(self._columns):
            needed = 2 + max(len(column), *(len(entries[place].text) for _, entries in rows))
            if blocks[-1] and used + needed > width:
                blocks.append([])
                used = names
            blocks[-1].append(place)
            used += needed
        return blocks

    def _block(self, rows: Sequence[tuple[str, list[Shown]]], columns: Sequence[int]) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        table.add_column("model", no_wrap=True)
        for place in columns:
            table.add_column(self._columns[place], justify="right", no_wrap=True)
        for name, entries in rows:
            texts = (
                f"[bold]{entries[at].text}[/bold]" if entries[at].best else entries[at].text for at in columns
            )
            table.add_row(plain(name, 200), *texts)
        return table

    def to(self, format: str) -> str:
        """As `markdown`, `latex`, `csv` or `html`."""
        return str(getattr(self, f"to_{format}")())

    def to_markdown(self) -> str:
        """A pipe table for each dataset, the best in bold, with the notes below."""
        lines = []
        for name, comparison in self.comparisons.items():
            lines += [f"**{_pipes(name)}**", ""] if name else []
            lines += [f"| model | {' | '.join(self._columns)} |", f"|---|{'---:|' * len(self._columns)}"]
            for model, entries in self.rows(comparison):
                texts = (f"**{one.text}**" if one.best else one.text for one in entries)
                lines.append(f"| {_pipes(model)} | {' | '.join(texts)} |")
            lines += ["", *(f"{_pipes(note)}  " for note in comparison.notes()), ""]
        return "\n".join(lines)

    def to_latex(self) -> str:
        """One `tabular` for `booktabs`; several datasets stand below each other. The notes are comments above it."""
        notes = [f"% {plain(note, 1000)}" for one in self.comparisons.values() for note in one.notes()]
        header = " & ".join(["model", *map(_latex, self._columns)])
        lines = [
            *dict.fromkeys(notes),
            rf"\begin{{tabular}}{{l{'r' * len(self._columns)}}}",
            r"\toprule",
            header + r" \\",
        ]
        for name, comparison in self.comparisons.items():
            lines.append(r"\midrule")
            if name:
                lines.append(rf"\multicolumn{{{len(self._columns) + 1}}}{{l}}{{\emph{{{_latex(name)}}}}} \\")
            for model, entries in self.rows(comparison):
                texts = (
                    rf"\textbf{{{_latex(one.text)}}}" if one.best else _latex(one.text) for one in entries
                )
                lines.append(" & ".join([_latex(model), *texts]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def to_html(self) -> str:
        """A table for each dataset, with the notes below."""
        parts = []
        for name, comparison in self.comparisons.items():
            head = "".join(f"<th>{html.escape(column)}</th>" for column in ("model", *self._columns))
            body = "".join(
                f"<tr><th style='text-align: left'>{html.escape(model)}</th>"
                + "".join(_html(entry) for entry in entries)
                + "</tr>"
                for model, entries in self.rows(comparison)
            )
            caption = f"<caption>{html.escape(name)}</caption>" if name else ""
            notes = "<br>".join(html.escape(note) for note in comparison.notes())
            parts.append(
                f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{notes}</p>"
            )
        return "\n".join(parts) + "\n"

    def to_csv(self) -> str:
        """`to_frame` as text."""
        return str(self.to_frame().write_csv())

    def to_frame(self) -> pl.DataFrame:
        """A row for each model (and dataset), numbers unrounded: METRIC, METRIC low, METRIC high and so on."""
        import polars as pl

        rows = []
        for name, comparison in self.comparisons.items():
            labels = comparison.labels()
            cells = {(cell.run, cell.metric): cell for cell in comparison.cells}
            for method in comparison.methods:
                run = method.runs[0]
                row: dict[str, Any] = {"data": name or comparison.protocol["dataset"], "model": labels[run]}
                row["seeds"] = len(method.runs)
                for metric in self._metrics:
                    cell = cells[run, metric]
                    row |= {metric: cell.mean, f"{metric} low": cell.low, f"{metric} high": cell.high}
                tested, cost = cells[run, self._metrics[0]], comparison.costs.get(run)
                row |= {
                    "difference": tested.difference,
                    "difference low": tested.difference_low,
                    "difference high": tested.difference_high,
                    "p": tested.p_value,
                    "p (Holm)": tested.p_holm,
                    "CPU s": cost and cost.cpu_seconds,
                    "epochs": cost and cost.epochs,
                    "parameters": cost and cost.parameters,
                }
                rows.append(row)
        return pl.DataFrame(rows, infer_schema_length=None)


def long_table(comparison: Comparison) -> Table:
    """For the terminal, readable in 80 columns: metric by metric a row for each run, the best in bold."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("metric", "run"):  # names are copied from here, so no line breaks them
        table.add_column(column, no_wrap=True)
    paired = any(cell.difference is not None for cell in comparison.cells)
    numbers = ["value", "95 % interval", *(["difference ± 95 %"] if paired else [])]
    numbers += ["p (Holm)"] if comparison.comparisons else []
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    labels = comparison.labels()
    for metric in dict.fromkeys(cell.metric for cell in comparison.cells):
        highest = best(comparison.cells, metric)
        for place, cell in enumerate(c for c in comparison.cells if c.metric == metric):
            shown = _long(cell, cell.mean == highest)[: len(numbers)]
            table.add_row(metric if place == 0 else "", plain(labels[cell.run], 1000), *shown)
        if (low := comparison.floor.get(metric)) is not None and not metric.endswith("/cold"):
            table.add_row("", FLOOR_NAME, f"{low:.4f}", *[""] * (len(numbers) - 1))
        table.add_section()
    return table


def print_whole(console: Console, table: Table) -> None:
    """Print a table with no cell broken or cut off; where the terminal is too narrow, its lines are longer."""
    before = console.width
    needed = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.width = max(before, needed)
    console.print(table)
    console.width = before


def best(cells: Sequence[Cell], metric: str) -> float | None:
    """The best mean, whichever direction is better."""
    values = [cell.mean for cell in cells if cell.metric == metric and cell.mean is not None and cell.trained]
    higher = all(cell.higher_is_better for cell in cells if cell.metric == metric)
    return (max if higher else min)(values, default=None)


def value(cell: Cell) -> str:
    """`0.3852 ± 0.0200`; without an interval the mean alone."""
    if not cell.trained:
        return "–"
    if cell.mean is None:
        return "undefined"
    if cell.low is None or cell.high is None:
        return f"{cell.mean:.4f}"
    return f"{cell.mean:.4f} ± {max(cell.high - cell.mean, cell.mean - cell.low):.4f}"


def difference(cell: Cell) -> str:
    """`+0.2770 ± 0.0210`; empty where there is none."""
    if cell.difference is None or cell.difference_low is None or cell.difference_high is None:
        return ""
    return f"{cell.difference:+.4f} ± {(cell.difference_high - cell.difference_low) / 2:.4f}"


def p_value(p: float) -> str:
    """Two digits, and a bound below one in ten thousand."""
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


def _long(cell: Cell, highest: bool) -> tuple[str, str, str, str]:
    """Value, interval, difference and p-value as text; empty where there is none."""
    if not cell.trained or cell.mean is None:
        return value(cell), "", "", ""
    shown = f"[bold]{cell.mean:.4f}[/bold]" if highest else f"{cell.mean:.4f}"
    spread = "" if cell.low is None else f"{cell.low:.4f} to {cell.high:.4f}"
    return shown, spread, difference(cell), "" if cell.p_holm is None else f"{cell.p_holm:.2g}"


def _number(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:,.0f}"


def _pipes(text: str) -> str:
    return (
        str(plain(text, 1000))
        .replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("*", "\\*")
    )


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in str(plain(text, 1000)))


def _html(entry: Shown) -> str:
    text = html.escape(entry.text)
    return f"<td style='text-align: right'>{f'<b>{text}</b>' if entry.best else text}</td>"
