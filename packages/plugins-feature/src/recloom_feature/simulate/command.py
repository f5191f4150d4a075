"""`recloom simulate`: simulated preferences between cold items."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from recloom.command import command
from recloom.errors import at_least
from recloom.llm import LLMOptions
from recloom.schemas import SplitSpec


@command("simulate")
def simulate(
    data: Path,
    *,
    llm: LLMOptions,
    split: SplitSpec = SplitSpec(),  # noqa: B008 - frozen
    split_path: Path | None = None,
    augment: Literal["pairwise", "positive"] = "pairwise",
    users: float = 0.2,
    pairs: int = 1,
    history: int = 20,
    columns: list[str] | None = None,
    by: Literal["scores", "answers"] | None = None,
    disagreement: Literal["drop", "calibrate"] = "drop",
    seed: int = 0,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Let a language model choose between unseen items for users.

    It is asked which of two items without an interaction a user would choose; the loss ColdStart learns from it. Train
    with `recloom fit --model.loss ColdStart --model.loss.pairs FILE`, the same data and the same split.

    Args:
        data: the prepared dataset.
        llm: the language model, and what it may cost.
        split: how the dataset is divided, as in training; `time` with test .3 is the cold-start rule. Only the
            training part is shown, and items without a training interaction are cold.
        split_path: folder written by `recloom data split`, used instead of `split`.
        augment: `pairwise` records the preferred and the other item, `positive` the preferred one alone.
        users: share of the training users who are simulated, drawn at random.
        pairs: pairs of cold items for each of them; each is asked in both orders.
        history: how many of the most recent training items are shown, at most 100.
        columns: columns of the items that are shown, apart by blanks; by default all.
        by: compare the log-probabilities of A and B (`scores`), or read a letter from an answer; by default
            scores where the model gives them.
        disagreement: drop a pair whose two orders disagree, or let the averaged scores decide (`calibrate`).
        seed: of the drawing of users and pairs.
        out: Parquet file to write, by default `simulated.parquet` in the dataset; failures are listed beside it.
        overwrite: replace a file of other options.
    """
    from .simulation import Simulation

    at_least(1, pairs=pairs, history=history)
    at_least(0, seed=seed)
    plan = Simulation(augment, users, pairs, history, columns, by, disagreement, seed)
    plan.run(data, split, split_path, llm, out or data / "simulated.parquet", overwrite)
