"""`recloom summarize`: LLM-TRSR's summaries of user histories."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from recloom.command import command
from recloom.errors import at_least
from recloom.llm import (
    LLMOptions,
)
from recloom.schemas import SplitSpec


@command("summarize")
def summarize(
    data: Path,
    *,
    llm: LLMOptions,
    method: Literal["hierarchical", "recurrent"] = "recurrent",
    split: SplitSpec = SplitSpec(),  # noqa: B008 - frozen
    split_path: Path | None = None,
    block: int = 5,
    history: int = 50,
    users: float = 1.0,
    columns: list[str] | None = None,
    prompt_tokens: int = 2048,
    seed: int = 0,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Let a language model summarise what users like (LLM-TRSR).

    It reads the texts of their training items. Turn the summaries into vectors with `recloom embed DATA --of users
    --texts OUT`.

    Args:
        data: the prepared dataset.
        llm: the language model, and what it may cost.
        method: `recurrent` renews one summary block by block, a call for each block; `hierarchical` summarises
            the blocks by themselves and then merges, one call more.
        split: how the dataset is divided, as in training; only the training part is shown.
        split_path: folder written by `recloom data split`, used instead of `split`.
        block: items of a block, at most 100.
        history: how many of the most recent training items are read.
        users: share of the training users, drawn at random.
        columns: columns of the items that are shown, apart by blanks; by default all.
        prompt_tokens: longest prompt; what is too long loses its oldest items, and nothing else.
        seed: of the drawing of users.
        out: Parquet file to write, by default `summaries.parquet` in the dataset; failures are listed beside it.
        overwrite: replace a file of other options.
    """

    from .summaries import Summarizing

    at_least(1, block=block, history=history, prompt_tokens=prompt_tokens)
    at_least(0, seed=seed)
    plan = Summarizing(method, block, history, users, columns, prompt_tokens, seed)
    plan.run(data, split, split_path, llm, out or data / "summaries.parquet", overwrite)
