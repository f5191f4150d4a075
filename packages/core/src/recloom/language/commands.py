"""`recloom llm ...`: what was asked of language models, and how it is handed on."""

from __future__ import annotations

from pathlib import Path

from ..command import command


@command("llm show")
def show(*, ledger: Path | None = None, json: bool = False) -> None:
    """Show what a ledger holds: replies, tokens and dates, by model and prompt.

    Args:
        ledger: the file, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
        json: print JSON instead of a table.
    """
    from dataclasses import asdict

    from .ledger import Ledger, ledger_path

    held = Ledger(ledger_path(ledger), offline=True)
    totals = held.totals()
    if json:
        import json as encoder

        print(encoder.dumps([asdict(total) for total in totals], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    from ..terminal import plain

    table = Table(title=plain(str(held.path), 400), title_justify="left", box=None, pad_edge=False)
    for name in ("model", "prompt"):
        table.add_column(name, overflow="fold")
    for name in ("replies", "prompt tokens", "completion tokens", "first", "last"):
        table.add_column(name, justify="right")
    for one in totals:
        counts = (f"{n:,}" for n in (one.replies, one.prompt_tokens, one.completion_tokens))
        table.add_row(plain(one.model), plain(one.prompt), *counts, one.first[:10], one.last[:10])
    Console().print(table)


@command("llm export")
def export(
    out: Path, *, ledger: Path | None = None, keys: Path | None = None, overwrite: bool = False
) -> None:
    """Write replies as lines of JSON, for another machine or to be kept with a run.

    Args:
        out: the file to write; it appears whole or not at all.
        ledger: the file to read, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
        keys: a file with one key a line; only their replies are written, and each must be held.
        overwrite: replace an existing file.
    """
    from ..errors import RecloomError
    from .ledger import Ledger, ledger_path

    if out.exists() and not overwrite:
        raise RecloomError(f"{out} exists. Choose another name, or replace it with --overwrite.")
    held = Ledger(ledger_path(ledger), offline=True)
    count = held.export(out, keys.read_text("utf-8").split() if keys else None)
    print(f"{count:,} replies written to {out}")


@command("llm import")
def load(file: Path, *, ledger: Path | None = None) -> None:
    """Take the replies of an exported file into a ledger; replies it holds already stay as they are.

    Args:
        file: what `recloom llm export` wrote; every line is checked before the first is taken.
        ledger: the file to add to, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
    """
    from .ledger import Ledger, ledger_path
    from .reply_lines import read_lines

    next(read_lines(file), None)  # a file that cannot be read leaves no empty ledger behind
    kept = Ledger(ledger_path(ledger))
    new, held = kept.load(file)
    print(f"{new:,} replies are new in {kept.path}, {held:,} were held already")


@command("llm batch-import")
def batch_import(results: Path, *, requests: Path, ledger: Path | None = None) -> None:
    """Take the results of a provider's batch into a ledger, in any order; failures are counted by reason.

    Args:
        results: what the provider returned, its output or its errors.
        requests: the file of requests that was sent; the `.questions.jsonl` written with it must lie beside it.
        ledger: the file to add to, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
    """
    from ..terminal import visible
    from .batch_files import read_batch
    from .ledger import Ledger, ledger_path

    kept = Ledger(ledger_path(ledger))
    taken = read_batch(results, requests, kept)
    print(f"{taken.kept:,} replies are new in {kept.path}, {taken.held:,} were held already")
    print(
        f"{taken.failures.total():,} results failed, {taken.unknown:,} belong to no open question, "
        f"{taken.missing:,} questions have no result"
    )
    for reason, count in taken.failures.most_common(10):
        print(visible(f"  {count:,} x {reason}".replace("\n", " ")))


@command("llm plan", passes_on=True)
def plan(command: list[str]) -> None:
    """Show what a command would ask a language model, and what that costs, and ask nothing.

    `recloom llm plan profile data/ml --kind item ... --llm.prices.prompt 0.15 --llm.prices.completion 0.6`

    Args:
        command: the command with its options, as they stand after `recloom`.
    """
    _called(command, ["--llm.run=plan"])


@command("llm batch-export", passes_on=True)
def batch_export(out: Path, command: list[str]) -> None:
    """Write what a command would ask as requests for a provider's batch; the ledger's replies are left out.

    Args:
        out: the file of requests to write; `.questions.jsonl`, which stays here, is written beside it.
        command: the command with its options, as they stand after `recloom`.
    """
    _called(command, ["--llm.run=batch", f"--llm.batch_out={out}"])


def _called(words: list[str], more: list[str]) -> None:
    """Call another command with further options; only one that asks has them."""
    from ..errors import RecloomError
    from ..invoke import find_command, invoke, no_command, options, typed
    from ..usage import LIGHTNING
    from .errand import Asking

    found = find_command(words)
    if found is None and words[0] not in LIGHTNING:
        raise no_command(words, LIGHTNING)
    if found is None or options(typed(found[1])).get("llm") is not Asking:
        name = found[0] if found else words[0]
        raise RecloomError(f"`recloom {name}` does not take --llm options: it asks no language model itself.")
    invoke(found[0], found[1], [*found[2], *more])


COMMANDS = (show, export, load, batch_import, plan, batch_export)
