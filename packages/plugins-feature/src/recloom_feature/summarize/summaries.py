"""From a dataset and a language model to a file of user summaries, which `recloom embed --of users` reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from recloom.errors import DataError
from recloom.llm import (
    LanguageModel,
    LLMOptions,
    TrainingRows,
    UserHistory,
    failures_of,
    item_lines,
    read_training,
    refuse_another,
    write_generated,
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
        """Read, ask in rounds, write and say what came of it."""
        rows = read_training(data, split, split_path)
        lines = item_lines(rows.catalog, self.columns)
        met = [
            one.with_text(lines).last(self.history)
            for one in rows.histories(rows.users(self.users, self.seed))
        ]
        able = [one for one in met if one.rows]
        if not able:
            raise DataError("no training item of these users has a text; name other --columns")
        made = self.recipe(rows, llm.model)
        refuse_another(out, METADATA, made, overwrite)
        told = [UserSummary(one.blocks(self.block)) for one in able]
        with llm.open() as session:
            METHODS[self.method](session, Prompts(llm.model, self.prompt_tokens), told, lines)
        written = self.write(able, told, made, out)
        if len(able) < len(met):
            print(f"{len(met) - len(able):,} users have no training item with a text")
        print(session.usage)
        if written:
            print(embed(data, "users", out))

    def recipe(self, rows: TrainingRows, model: LanguageModel) -> dict[str, Any]:
        """Everything that the texts are made from, as plain data."""
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

    def write(
        self, users: list[UserHistory], told: list[UserSummary], made: dict[str, Any], out: Path
    ) -> int:
        """The file, the failures, and lines for the reader; the number of summaries."""
        found = [(user, one) for user, one in zip(users, told, strict=True) if one.failure is None]
        failures = [(user.user, one.failure) for user, one in zip(users, told, strict=True) if one.failure]
        records = [
            {
                "user_id": user.user,
                "text": one.summaries[-1],
                "method": self.method,
                "blocks": len(one.blocks),
                "prompt": one.prompt,
                "source": one.source,
            }
            for user, one in found
        ]
        table = pl.DataFrame(records, schema=SCHEMA).to_arrow()
        counts = {"asked": len(users), "failed": len(failures)}
        write_generated(table, out, METADATA, made | counts, failures)
        print(f"wrote {out}: summaries of {len(found):,} of {len(users):,} users, {len(failures):,} failed")
        if failures:
            print(f"what failed, and why: {failures_of(out)}")
        return len(found)
