"""Summaries of user histories: requests in rounds, and the file that `recloom embed --of users` reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from recloom.errors import DataError
from recloom.llm import (
    GeneratedTable,
    LanguageModel,
    LLMOptions,
    LLMSession,
    TableTarget,
    TrainingRows,
    UserHistory,
    generate_table,
    item_text,
    read_training,
)
from recloom.schemas import SplitSpec

from ..next_steps import embed
from .rounds import METHODS, Prompts, UserSummary, named, prompt

METADATA = b"recloom.summaries"


SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "text": pl.String,
    "method": pl.Categorical,  # `recloom embed` takes every column of plain texts
    "blocks": pl.Int64,
    "prompt": pl.Categorical,
    "source": pl.List(pl.Int64),
}


@dataclass(frozen=True)
class Summarizing:
    """The options of `recloom summarize` that its texts depend on."""

    method: Literal["hierarchical", "recurrent"]
    block: int
    history: int
    users: float
    columns: list[str] | None
    prompt_tokens: int
    seed: int

    def run(
        self,
        data: Path,
        split: SplitSpec,
        split_path: Path | None,
        llm: LLMOptions,
        out: Path,
        overwrite: bool,
    ) -> None:
        """Read the histories, make the requests in rounds, and write the summaries."""
        rows = read_training(data, split, split_path)
        texts = item_text(rows.catalog.items, self.columns)
        every = rows.histories(rows.users(self.users, self.seed))
        able = [one for each in every if (one := each.with_text(texts).last(self.history)).rows]
        if not able:
            raise DataError("no training item of these users has a text; name other --columns")

        def ask(session: LLMSession) -> GeneratedTable:
            users = [UserSummary(one.blocks(self.block)) for one in able]
            METHODS[self.method](session, Prompts(llm.model, self.prompt_tokens), users, texts)
            return self.table(able, users, len(every) - len(able))

        target = TableTarget(out, METADATA, self.recipe(rows, llm.model))
        generate_table(llm, target, ask, overwrite=overwrite, then=embed(data, "users", out))

    def recipe(self, rows: TrainingRows, model: LanguageModel) -> dict[str, Any]:
        """The identity of the file: data, split, prompts, language model and options."""
        steps = ["block", "update" if self.method == "recurrent" else "merge"]
        return asdict(self) | {
            "dataset": rows.card.name,
            "data_hash": rows.card.data_hash(),
            "split": rows.spec.model_dump(mode="json"),
            "split_hash": rows.split_hash,
            "training": rows.digest(),
            "prompts": [named(prompt(f"summarize-{step}")) for step in steps],
            "model": dict(model.identity),
        }

    def table(self, users: list[UserHistory], summaries: list[UserSummary], without: int) -> GeneratedTable:
        """A row for each user who has a summary; `without` further users have no training item with a text."""
        pairs = list(zip(users, summaries, strict=True))
        records = [
            {
                "user_id": user.user,
                "text": one.summaries[-1],
                "method": self.method,
                "blocks": len(one.blocks),
                "prompt": one.prompt,
                "source": one.source,
            }
            for user, one in pairs
            if one.failure is None
        ]
        failures = [(user.user, one.failure) for user, one in pairs if one.failure]
        return GeneratedTable(
            pl.DataFrame(records, schema=SCHEMA).to_arrow(), failures,
            f"summaries of {len(records):,} of {len(users):,} users, {len(failures):,} failed",
            [f"{without:,} users have no training item with a text"] if without else [],
            {"asked": len(users), "failed": len(failures)},
        )  # fmt: skip
