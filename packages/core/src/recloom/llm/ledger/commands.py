"""`recloom llm ...`: what was asked of language models, and how it is handed on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...cli.help import LIGHTNING
from ...command import command

if TYPE_CHECKING:
    from .store import Ledger


@command("llm show")
def show(*, ledger: Path | None = None, json: bool = False) -> None:
    """Show what a ledger holds, by model and prompt.

    Replies, their tokens as they were reported or estimated, and the date of the last one.

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
    from .export import tables

    tables(held.path, totals)


@command("llm export")
def export(
    out: Path, *, ledger: Path | None = None, keys: Path | None = None, overwrite: bool = False
) -> None:
    """Write replies as lines of JSON.

    For another machine, or to be kept with a run; `recloom llm import` reads them.

    Args:
        out: the file to write; it appears whole or not at all.
        ledger: the file to read, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
        keys: a file with one key a line; only their replies are written, and each must be held.
        overwrite: replace an existing file.
    """
    from ...errors import RecloomError

    if out.exists() and not overwrite:
        raise RecloomError(f"{out} exists. Choose another name, or replace it with --overwrite.")
    held = _held(ledger)
    count = held.export(out, keys.read_text("utf-8").split() if keys else None)
    print(f"{count:,} replies written to {out}")


@command("llm import")
def load(file: Path, *, ledger: Path | None = None) -> None:
    """Take the replies of an exported file into a ledger.

    Replies that it holds already stay as they are.

    Args:
        file: what `recloom llm export` wrote; every line is checked before the first is taken.
        ledger: the file to add to, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
    """
    from .export import read_lines
    from .store import Ledger, ledger_path

    next(read_lines(file), None)  # a file that cannot be read leaves no empty ledger behind
    kept = Ledger(ledger_path(ledger))
    new, held = kept.load(file)
    print(f"{new:,} replies are new in {kept.path}, {held:,} were held already")


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
    from .provider_batch import keep_failures, questions_path, read_batch, tell
    from .store import Ledger, ledger_path

    for file in (questions_path(requests), results):
        next(json_lines(file), None)  # files that cannot be read leave no empty ledger behind
    kept = Ledger(ledger_path(ledger))
    taken = read_batch(results, requests, kept)
    tell(taken, kept.path)
    keep_failures(taken, results)


@command("llm plan", passes_on=True)
def plan(command: list[str]) -> None:
    """Show what a command would ask, and what that costs.

    Nothing is asked. `recloom llm plan profile data/ml --kind item ... --llm.prices.prompt 0.15
    --llm.prices.completion 0.6`

    Args:
        command: the command with its options, as they stand after `recloom`.
    """
    from ...errors import Finished
    from ...terminal import command_line

    try:
        _called(command, ["--llm.run=plan"])
    except Finished:
        print(f"next: {command_line(*command)}")
        raise


@command("llm batch-export", passes_on=True)
def batch_export(out: Path, command: list[str]) -> None:
    """Write what a command would ask as a provider's batch.

    Requests whose replies the ledger holds are left out. `recloom llm batch-export requests.jsonl profile data/ml
    --kind item ... --llm.model OpenAIChat ...`

    Args:
        out: the file of requests to write; `.questions.jsonl`, which stays here, is written beside it.
        command: the command with its options, as they stand after `recloom`.
    """
    from ...errors import Finished
    from ...terminal import command_line
    from ..client.session import NothingLeft

    try:
        _called(command, ["--llm.run=batch", f"--llm.batch_out={out}"])
    except NothingLeft:
        print(f"next: {command_line(*command)}")
        raise
    except Finished:
        print("And then, to another file, what is asked next; where nothing is, this says so:")
        print(f"  {command_line('llm', 'batch-export', 'ANOTHER', *command)}")
        raise


def _held(ledger: Path | None) -> Ledger:
    """A ledger to be read; RecloomError where there is none, with the commands that make one."""
    from ...errors import RecloomError
    from .store import Ledger, ledger_path

    path = ledger_path(ledger)
    if not path.exists():
        made = ", ".join(f"`recloom {name}`" for name in asking_commands())
        raise RecloomError(
            f"there is no ledger at {path}. A command that asks a language model makes it with its first reply "
            f"({made or 'no installed plugin has one'}), `recloom llm import FILE` fills one from an export, and "
            "--ledger names another."
        )
    return Ledger(path, offline=True)


def _called(words: list[str], more: list[str]) -> None:
    """Call another command with further options; only one that asks has them."""
    from ...cli.invoke import find_command, invoke
    from ...errors import RecloomError
    from ...spec import unknown

    if words[0].startswith("-"):
        raise RecloomError(
            f"say the command before its options, such as `profile DATA ... {words[0]}`; found {words[0]} first"
        )
    found, known = find_command(words), asking_commands()
    name = found[0] if found else words[0] if words[0] in LIGHTNING else ""
    if not name:
        group = any(one.startswith(f"{words[0]} ") for one in known)
        raise RecloomError(unknown(" ".join(words[: 1 + group]), known, "commands that ask a language model"))
    if found is None or name not in known:
        raise RecloomError(
            f"`recloom {name}` does not take --llm options: it asks no language model itself. "
            f"Those that do: {', '.join(known)}."
        )
    invoke(name, found[1], [*found[2], *more])


def asking_commands() -> list[str]:
    """Names of the commands that ask a language model."""
    from ...cli.invoke import commands_with
    from ..client.options import LLMOptions

    return commands_with("llm", LLMOptions)


COMMANDS = (show, export, load, batch_import, plan, batch_export)
