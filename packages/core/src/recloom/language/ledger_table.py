"""What a ledger holds, as tables that fit a narrow terminal: one for each model, a line for each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..terminal import plain
from .ledger import Total

VERSION = 8
"""Characters of a prompt's version that are shown; two versions hardly ever share them."""
COLUMNS = ("replies", "prompt tokens", "completion tokens", "last asked")


def tables(path: Path, totals: Sequence[Total]) -> None:
    """Print them, by model."""
    console = Console(highlight=False)
    console.print(plain(f"{path}: {sum(total.replies for total in totals):,} replies", 400))
    by_model = sorted(totals, key=lambda total: total.model)
    for model, group in groupby(by_model, lambda total: total.model):
        table = Table(box=None, pad_edge=False)
        table.add_column(plain(model, 40))
        for name in COLUMNS:
            table.add_column(name, justify="right")
        for one in group:
            counts = (f"{n:,}" for n in (one.replies, one.prompt_tokens, one.completion_tokens))
            table.add_row(plain(_short(one.prompt), 40), *counts, one.last[:10])
        console.print()
        console.print(table)


def _short(prompt: str) -> str:
    name, at, version = prompt.rpartition("@")
    return f"{name}{at}{version[:VERSION]}" if at else prompt
