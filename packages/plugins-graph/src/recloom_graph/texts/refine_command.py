"""`recloom graph refine`: texts of GaCLLM, refined layer by layer by a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from recloom.command import command
from recloom.errors import RecloomError, at_least
from recloom.llm import LLMOptions
from recloom.schemas import SplitSpec

MOST = 100
"""Largest number of neighbours in a prompt."""


@command("graph refine")
def refine(
    data: Path,
    *,
    llm: LLMOptions,
    layers: int = 2,
    neighbours: int = 10,
    update: Literal["append", "replace"] = "append",
    split: SplitSpec = SplitSpec(),  # noqa: B008 - frozen
    split_path: Path | None = None,
    columns: list[str] | None = None,
    prompt_tokens: int = 2048,
    answer_tokens: int = 300,
    seed: int = 0,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Let a language model describe users and items by each other, layer by layer (GaCLLM).

    Each layer makes one request for every user and item with a training neighbour, with texts of the layer before.
    Those without one keep their text. A reconstruction from the paper's abstract; its fine-tuning is left out. Turn
    the texts into vectors with `recloom graph encode DATA`, for the model GaCLLM.

    Args:
        data: the prepared dataset.
        llm: the language model, what it may cost, and the ledger of its responses.
        layers: how often texts are refined; 0 makes no request and writes the raw ones.
        neighbours: number of training neighbours in a prompt, sampled by `seed`.
        update: `append` puts an answer after the text that it refines, `replace` in its place.
        split: how interactions are divided, as in training; only the training part is used.
        split_path: folder written by `recloom data split`, used instead of `split`.
        columns: attributes of the items that make their raw texts, apart by blanks; by default all.
        prompt_tokens: longest prompt. Neighbours are shortened to fit, the longest first; a node whose own text is
            too long keeps it and is listed among the failures.
        answer_tokens: longest answer.
        seed: of the sample of neighbours.
        out: folder of `refined-items.parquet` and `refined-users.parquet`, by default the dataset; what failed goes
            beside them, to the same names with `.failures.jsonl`.
        overwrite: replace files that were made from other data, prompts or options.
    """
    at_least(1, neighbours=neighbours, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)
    at_least(0, layers=layers, seed=seed)
    if neighbours > MOST:
        raise RecloomError(f"a prompt takes at most {MOST} neighbours; found --neighbours {neighbours}")
    from recloom.llm import GeneratedTable, LLMSession, TableTarget, generate_tables, read_training

    from ..next_steps import after_refining
    from .refine import MADE_FROM, SIDES, Prompts, nodes_of, raw_texts, refine_layers, refined_table

    rows = read_training(data, split, split_path)
    raw = raw_texts(rows.catalog, columns)
    if not any(raw.values()):
        raise RecloomError(f"no user and no item of {data} has an attribute, so there is no text to refine")
    nodes = nodes_of(rows.train, neighbours, seed)
    prompts = Prompts(llm.model, prompt_tokens, answer_tokens)
    made: dict[str, Any] = {"data_hash": rows.card.data_hash(), "columns": columns, "layers": layers}
    made |= {"split": rows.spec.model_dump(mode="json")}
    if layers:
        made |= {
            "split_hash": rows.split_hash, "model": dict(llm.model.identity), "neighbours": neighbours,
            "update": update, "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens, "seed": seed,
            "prompts": [known_as for _, known_as in prompts.templates.values()],
        }  # fmt: skip
    folder = out or data
    files = folder / "refined-users.parquet", folder / "refined-items.parquet"  # as SIDES

    def ask(session: LLMSession) -> list[GeneratedTable]:
        found = refine_layers(session, prompts, nodes, raw, layers, update)
        return [refined_table(rows.catalog, side, nodes, found) for side in SIDES]

    targets = [TableTarget(file, MADE_FROM, made) for file in files]
    generate_tables(llm, targets, ask, overwrite=overwrite, then=lambda rows: after_refining(data, folder))
