"""`recloom llm ...`: what a ledger holds, its export and import, and the results of provider batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...command import command

if TYPE_CHECKING:
    from .store import Ledger


@command("llm show")
def show(*, ledger: Path | None = None, json: bool = False) -> None:
    """Show what a ledger holds, by model and prompt.

    Responses, their tokens as they were reported or estimated, and the date of the last one.

    Args:
        ledger: the file, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
        json: print JSON instead of tables, with the versions of prompts in full.
    """
    from dataclasses import asdict

    held = _held(ledger)
    totals = held.totals()
    if json:
        import json as encoder

        print(encoder.dumps([asdict(total) for total in totals], indent=2))
        return
    from .export import print_tables

    print_tables(held.path, totals)


@command("llm export")
def export(
    out: Path, *, ledger: Path | None = None, keys: Path | None = None, overwrite: bool = False
) -> None:
    """Write responses as lines of JSON.

    For another machine, or to be kept with a run; `recloom llm import` reads them.

    Args:
        out: the file to write; it appears whole or not at all.
        ledger: the file to read, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
        keys: a file with one key a line; only their responses are written, and each must be held.
        overwrite: replace an existing file.
    """
    from ...errors import RecloomError

    if out.exists() and not overwrite:
        raise RecloomError(f"{out} exists. Choose another name, or replace it with --overwrite.")
    held = _held(ledger)
    count = held.export(out, keys.read_text("utf-8").split() if keys else None)
    print(f"{count:,} responses written to {out}")


@command("llm import")
def load(file: Path, *, ledger: Path | None = None) -> None:
    """Take the responses of an exported file into a ledger.

    Responses that it holds already stay as they are.

    Args:
        file: what `recloom llm export` wrote; every line is checked before the first is taken.
        ledger: the file to add to, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
    """
    from .export import read_lines
    from .store import Ledger, ledger_path

    next(read_lines(file), None)  # a file that cannot be read leaves no empty ledger behind
    kept = Ledger(ledger_path(ledger))
    new, held = kept.load(file)
    print(f"{new:,} responses are new in {kept.path}, {held:,} were held already")


@command("llm batch-import")
def batch_import(results: Path, *, requests: Path, ledger: Path | None = None) -> None:
    """Take the results of a provider's batch into a ledger.

    They may come in any order. What failed is counted by reason, and listed with its id in
    `RESULTS.failures.jsonl`, without the ending of RESULTS.

    Args:
        results: what the provider returned, its output or its errors.
        requests: the file of requests that was sent; the `.questions.jsonl` written with it must lie beside it.
        ledger: the file to add to, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
    """
    from .export import json_lines
    from .provider_batch import index_path, print_report, read_batch, write_failures
    from .store import Ledger, ledger_path

    for file in (index_path(requests), results):
        next(json_lines(file), None)  # files that cannot be read leave no empty ledger behind
    kept = Ledger(ledger_path(ledger))
    report = read_batch(results, requests, kept)
    print_report(report, kept.path)
    write_failures(report, results)


def _held(ledger: Path | None) -> Ledger:
    """A ledger to be read; RecloomError where there is none, with the commands that make one."""
    from ...errors import RecloomError
    from ..client.options import asking_commands
    from .store import Ledger, ledger_path

    path = ledger_path(ledger)
    if not path.exists():
        made = ", ".join(f"`recloom {name}`" for name in asking_commands())
        raise RecloomError(
            f"there is no ledger at {path}. A command that asks a language model makes it with its first response "
            f"({made or 'no installed plugin has one'}), `recloom llm import FILE` fills one from an export, and "
            "--ledger names another."
        )
    return Ledger(path, offline=True)


LEDGER_COMMANDS = (show, export, load, batch_import)
