"""`recloom llm plan` and `recloom llm batch-export`: another command, asked for its plan or its batch."""

from __future__ import annotations

from pathlib import Path

from ..command import command
from ..errors import Finished, RecloomError
from ..next_steps import command_line, then
from ..spec import unknown
from .help import LIGHTNING
from .invoke import find_command, invoke


@command("llm plan", passes_on=True)
def plan(command: list[str]) -> None:
    """Show what a command would send, and what that costs.

    Nothing is sent. `recloom llm plan profile data/ml --kind item ... --llm.prices.prompt 0.15
    --llm.prices.completion 0.6`

    Args:
        command: the command with its options, as they stand after `recloom`.
    """
    try:
        _invoke_with(command, ["--llm.run=plan"])
    except Finished:
        print(then(*command))
        raise


@command("llm batch-export", passes_on=True)
def batch_export(out: Path, command: list[str]) -> None:
    """Write what a command would send as a provider's batch.

    Requests whose responses the ledger holds are left out. `recloom llm batch-export requests.jsonl profile data/ml
    --kind item ... --llm.model OpenAIChat ...`

    Args:
        out: the file of requests to write; `.questions.jsonl`, which stays here, is written beside it.
        command: the command with its options, as they stand after `recloom`.
    """
    from ..llm import NothingToSend

    try:
        _invoke_with(command, ["--llm.run=batch", f"--llm.batch_out={out}"])
    except NothingToSend:
        print(then(*command))
        raise
    except Finished:
        print("And then, to another file, what is sent next; where nothing is, this says so:")
        print(f"  {command_line('llm', 'batch-export', 'ANOTHER', *command)}")
        raise


def _invoke_with(words: list[str], more: list[str]) -> None:
    """Call another command with further options; only one that asks has them."""
    from ..llm import asking_commands

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
            f"Those that do: {', '.join(known)}. A recommender that asks one is planned by `recloom test RUN "
            "--model.recommender.llm.run plan`."
        )
    invoke(name, found[1], [*found[2], *more])
