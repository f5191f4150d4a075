"""Simulation of preferences between cold items: pairs, requests in both orders, decisions, and the file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from recloom.errors import DataError, RecloomError
from recloom.llm import (
    Failure,
    GeneratedTable,
    LanguageModel,
    LLMOptions,
    LLMRequest,
    LLMResponse,
    LLMSession,
    TableTarget,
    TrainingRows,
    UserHistory,
    generate_table,
    item_text,
    read_training,
)
from recloom.plugins import collect
from recloom.schemas import SplitSpec

from ..next_steps import fit_with_pairs
from .preferences import (
    LETTERS,
    METADATA,
    Choice,
    MadeFrom,
    PairDecision,
    by_answers,
    by_scores,
    draw_pairs,
    simulated_table,
)

Answer = Choice | LLMResponse | Failure
Way = Literal["scores", "answers"]


@dataclass(frozen=True)
class PairRequest:
    """A pair of cold items, and the history of the user who is simulated."""

    user: UserHistory
    first: str
    second: str

    @property
    def orders(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The items shown as A and as B, in both orders."""
        return (self.first, self.second), (self.second, self.first)


@dataclass(frozen=True)
class Simulation:
    """The options of `recloom simulate` that its records depend on."""

    augment: Literal["pairwise", "positive"]
    users: float
    pairs: int
    history: int
    columns: list[str] | None
    by: Way | None
    disagreement: Literal["drop", "calibrate"]
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
        """Sample the pairs, request both orders of each, and write the preferences."""
        by = self.way(llm.model)
        if by == "scores" and llm.run == "batch":
            raise RecloomError(
                "a provider's batch gives no probabilities. Add --by answers, here and to the command itself, so that "
                "letters are read from answers."
            )
        rows = read_training(data, split, split_path)
        texts = item_text(rows.catalog.items, self.columns)
        if len(cold_with_text(rows, texts)) < 2:
            raise too_few_cold_items(data, rows, texts)
        pairs, recipe = self.draw(rows, texts), self.recipe(rows, llm.model, by)

        def ask(session: LLMSession) -> GeneratedTable:
            return self.table(pairs, self.ask(session, pairs, texts, by), recipe)

        next_command = fit_with_pairs(data, out, split, split_path)
        target = TableTarget(out, METADATA, recipe)
        generate_table(llm, target, ask, overwrite=overwrite, then=next_command)

    def way(self, model: LanguageModel) -> Way:
        """Whether log-probabilities or answers are compared; RecloomError where the model lacks them."""
        found: Way = self.by or ("scores" if model.can_score else "answers")
        if found == "scores" and not model.can_score:
            raise RecloomError(f"{type(model).__name__} gives no probabilities; use --by answers")
        if found == "answers" and self.disagreement == "calibrate":
            raise RecloomError(
                "--disagreement calibrate averages log-probabilities, and answers have none; use --by scores with a "
                "model that gives them, or --disagreement drop"
            )
        return found

    def draw(self, rows: TrainingRows, texts: dict[str, str]) -> list[PairRequest]:
        """Pairs of cold items for a share of the training users; items without text are left out."""
        cold = cold_with_text(rows, texts)
        users = rows.users(self.users, self.seed)
        shown = {one.user: one.with_text(texts).last(self.history) for one in rows.histories(users)}
        users = [user for user in users if shown[user].items]
        drawn = draw_pairs(users, cold, rows.held_out, self.pairs, np.random.default_rng([self.seed, 1]))
        if not drawn:
            raise DataError(
                "no pair can be drawn: no user with text has two cold items left to be asked about"
            )
        return [PairRequest(shown[user], first, second) for user, first, second in drawn]

    def recipe(self, rows: TrainingRows, model: LanguageModel, by: Way) -> dict[str, Any]:
        """The identity of the file: data, split, prompt, language model and options."""
        made = MadeFrom(
            dataset=rows.card.name, data_hash=rows.card.data_hash(), split=rows.spec, split_hash=rows.split_hash,
            training=rows.digest(), augment=self.augment, asked_by=by, disagreement=self.disagreement,
            users=self.users, pairs=self.pairs, history=self.history, columns=self.columns, seed=self.seed,
            prompt=template(by)[1], model=dict(model.identity), asked=0, failed=0, same_letter=0,
        )  # fmt: skip
        return made.model_dump(mode="json", exclude={"asked", "failed", "same_letter"})

    def ask(
        self, session: LLMSession, pairs: list[PairRequest], texts: dict[str, str], by: Way
    ) -> list[Answer]:
        """Two answers for each pair, one for each order."""
        prompt, name = template(by)
        requests = [
            LLMRequest(
                tuple(prompt.render(history=[texts[i] for i in pair.user.items], items=[texts[i] for i in order])),
                prompt=name, max_tokens=20, options=LETTERS if by == "scores" else None,
            )
            for pair in pairs
            for order in pair.orders
        ]  # fmt: skip
        if by == "scores":
            return list(session.ask(requests, progress="simulating").responses)
        return list(session.answers(requests, Choice, progress="simulating").found)

    def decision(self, forth: Answer, back: Answer) -> PairDecision | None:
        """The decision from both answers; None where one is a failure."""
        if isinstance(forth, Choice) and isinstance(back, Choice):
            return by_answers(forth.answer, back.answer)
        if isinstance(forth, LLMResponse) and isinstance(back, LLMResponse):
            return by_scores(forth.scores, back.scores, self.disagreement)
        return None

    def table(
        self, pairs: list[PairRequest], answers: list[Answer], recipe: dict[str, Any]
    ) -> GeneratedTable:
        """The table with a row for each pair that has a preferred item."""
        decisions = [self.decision(*two) for two in zip(answers[::2], answers[1::2], strict=True)]
        records = [
            self.record(pair, found, recipe["prompt"])
            for pair, found in zip(pairs, decisions, strict=True)
            if found is not None and found.first is not None
        ]
        counts = {
            "asked": len(pairs),
            "failed": decisions.count(None),
            "same_letter": sum(found is not None and found.same_letter for found in decisions),
        }
        orders = [f"{p.user.user}: A = {a}, B = {b}" for p in pairs for a, b in p.orders]
        failures = [(of, one) for of, one in zip(orders, answers, strict=True) if isinstance(one, Failure)]
        facts = MadeFrom.model_validate(recipe | counts)
        summary = f"{len(records):,} preferences from {facts.asked:,} pairs, asked by {facts.asked_by}"
        return GeneratedTable(simulated_table(records), failures, summary, notes(facts, len(records)), counts)

    def record(self, pair: PairRequest, found: PairDecision, prompt: str) -> dict[str, Any]:
        """A row of the file."""
        preferred, other = pair.orders[0 if found.first else 1]
        return {
            "user_id": pair.user.user,
            "preferred": preferred,
            "other": other if self.augment == "pairwise" else None,
            "confidence": found.confidence,
            "agreed": not found.same_letter,
            "prompt": prompt,
            "source": pair.user.rows,
        }


def cold_with_text(rows: TrainingRows, texts: Mapping[str, str]) -> list[str]:
    """Items with text and without a training interaction, in the order of the catalogue."""
    return [item for item in rows.cold_items() if texts[item]]


def too_few_cold_items(data: Path, rows: TrainingRows, texts: Mapping[str, str]) -> DataError:
    """The error for a split that leaves no pair of cold items, with the narrowest split by time that leaves one."""
    advice = "No split by time leaves 2 either: every item was met early. Use data with new items."
    for test in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        valid = rows.spec.valid if rows.spec.valid + test < 1 else 0.0
        spec = SplitSpec(
            strategy="time", valid=valid, test=test, min_user=rows.spec.min_user, min_item=rows.spec.min_item
        )
        with suppress(DataError):  # a split that leaves nothing to train on
            if len(cold_with_text(read_training(data, spec), texts)) >= 2:
                more = "" if valid == rows.spec.valid else " --split.valid 0"
                advice = (
                    f"Use --split.strategy time --split.test {test:g}{more} instead, or data with new items."
                )
                break
    return DataError(
        f"this split leaves {len(cold_with_text(rows, texts))} items with text and without a training interaction, and "
        f"a pair takes 2. {advice}"
    )


def template(by: Way) -> tuple[Any, str]:
    """The prompt of either way, and its name with version."""
    prompt = collect("register_prompts")["simulate-letter" if by == "scores" else "simulate-json"]
    return prompt, f"{prompt.name}@{prompt.version}"


def notes(facts: MadeFrom, records: int) -> list[str]:
    """Notes for the summary: the position bias, and the failures."""
    bias = facts.position_bias
    answered = facts.asked - facts.failed
    lines = [
        "no pair was answered"
        if bias is None
        else f"position bias {bias:.1%} ({facts.same_letter:,} of {answered:,} answered pairs got one letter in both "
        "orders)"
    ]
    if not records:
        lines.append("ColdStart has nothing to learn from this file: use another model, or more pairs.")
    if facts.failed:
        lines.append(f"{facts.failed:,} pairs failed")
    return lines
