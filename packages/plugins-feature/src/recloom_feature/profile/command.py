"""`recloom profile`: profiles of items, of users, or of pairs of both by a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recloom.command import command
from recloom.errors import RecloomError, at_least
from recloom.llm import LLMOptions
from recloom.schemas import SplitSpec

from .kinds import TOPICS, Kind, Scenario

HISTORIES = ("user", "reason")
MOST = 200
"""Largest number of history lines, and of topics, in a prompt."""


@command("profile")
def profile(
    data: Path,
    *,
    kind: Kind,
    out: Path,
    llm: LLMOptions,
    split: SplitSpec = SplitSpec(),  # noqa: B008 - frozen
    split_path: Path | None = None,
    columns: list[str] | None = None,
    scenario: Scenario = "general",
    first: int | None = None,
    last: int = 50,
    topics: Path | None = None,
    pairs: Path | None = None,
    limit: int | None = None,
    answer_tokens: int | None = None,
    overwrite: bool = False,
) -> None:
    """Ask a language model about items, users, or pairs of both.

    What is known of an item, its keywords, topics or a plainer title; what a user prefers; why an item suits a
    user. Only training interactions are shown to it, and every row names those it was built from (`source`: rows of
    interactions.parquet). Responses are kept in the ledger, so a second run makes no request, and an interrupted one
    continues.

    Args:
        data: the prepared dataset.
        kind: `item` (what is known of it), `keywords`, `topics` or `title` (rewritten) of every item; `user`
            (preferences from the training history); `reason` (why an item suits a user, for the --pairs).
        out: Parquet file to write; what failed goes beside it, to the same name with `.failures.jsonl`.
        llm: the language model, what it may cost, and the ledger of its responses.
        split: how interactions are divided, as in training; only the training part is used.
        split_path: folder written by `recloom data split`, used instead of `split`.
        columns: attributes of the items that are shown, apart by blanks; by default all.
        scenario: the factors by which `item` and `user` are analysed.
        first: of a user's n training interactions only the first min((n + 1) // 2, FIRST) are shown, so that a
            model may be trained on the rest (30 in KAR).
        last: without `first`, how many of the most recent training interactions are shown.
        topics: file with a topic on each line, the closed list; by default 28 general ones.
        pairs: Parquet or .csv file of user_id and item_id, for `reason`, such as the predictions.parquet of
            `recloom predict`.
        limit: only the first so many items, users or pairs.
        answer_tokens: how long an answer may be; by default 100 to 700 tokens, by kind.
        overwrite: replace a file that was made from other data, prompts or options.
    """
    _check(kind, first, last, pairs, limit, answer_tokens)
    chosen = _topics(topics)
    from recloom.data import Catalog, read_unchanged
    from recloom.llm import (
        GeneratedTable,
        LLMSession,
        TableTarget,
        generate_table,
        read_training,
        text_records,
    )

    from ..next_steps import embed as next_embed
    from ..next_steps import measure_reasons
    from .kinds import model_of, wrong_citation
    from .profiles import MADE_FROM, histories, profile_table, read_pairs, requests, subjects

    rows = read_training(data, split, split_path) if kind in HISTORIES else None
    card, catalog = (rows.card, rows.catalog) if rows else (read_unchanged(data), Catalog.load(data))
    records = text_records(catalog.items, columns) if kind != "user" else {}
    known = histories(rows, first, last) if rows else {}
    wanted = read_pairs(pairs, catalog) if pairs else None
    every = subjects(kind, catalog, records, known, wanted, scenario, chosen)
    about = every[:limit]
    if not about:
        raise RecloomError(f"{pairs or data} holds nothing to profile: {_lacking(kind)}")
    asked = requests(kind, about, answer_tokens)
    recipe: dict[str, Any] = {
        "kind": kind, "data_hash": card.data_hash(), "prompt": asked[0].prompt, "model": llm.model.identity,
        "columns": columns, "limit": limit, "answer_tokens": asked[0].max_tokens,
    }  # fmt: skip
    if rows:
        recipe |= {"split_hash": rows.split_hash, "split": rows.spec.model_dump(mode="json"), "first": first}
        recipe |= {"last": last} if first is None else {}
    recipe |= {"scenario": scenario} if kind in ("item", "user") else {}
    recipe |= {"topics": chosen} if kind in ("user", "topics") else {}
    total = {"user": catalog.num_users, "reason": len(wanted) if wanted is not None else 0}
    left_out = total.get(kind, catalog.num_items) - len(every)

    def check(at: int, one: Any) -> str:
        return wrong_citation(one, about[at].record) if kind == "reason" else ""

    def ask(session: LLMSession) -> GeneratedTable:
        model = model_of(kind, scenario, chosen)
        found = session.answers(asked, model, check=check, progress=f"{kind} profiles")
        notes = [f"{left_out:,} left out: {_lacking(kind)}"] if left_out else []
        return profile_table(kind, about, found, asked[0].prompt, notes)

    of = "users" if kind == "user" else "items"
    next_command = measure_reasons(data, out) if kind == "reason" else next_embed(data, of, out)
    generate_table(llm, TableTarget(out, MADE_FROM, recipe), ask, overwrite=overwrite, then=next_command)


def _check(
    kind: Kind, first: int | None, last: int, pairs: Path | None, limit: int | None, tokens: int | None
) -> None:
    at_least(1, first=first, last=last, limit=limit, answer_tokens=tokens)
    if (first or last) > MOST:
        raise RecloomError(
            f"a history shown to a language model has at most {MOST} lines; found {first or last}"
        )
    if first is not None and kind not in HISTORIES:
        raise RecloomError(
            f"--first is about histories, and --kind {kind} shows none; use it with user or reason"
        )
    if (kind == "reason") != (pairs is not None):
        raise RecloomError(
            "--kind reason needs --pairs FILE of user_id and item_id, and no other kind takes it"
        )


def _topics(path: Path | None) -> Sequence[str]:
    if path is None:
        return TOPICS
    if not path.is_file():
        raise RecloomError(f"{path} does not exist; expected a file with a topic on each line")
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    found = list(dict.fromkeys(line for line in lines if line))
    if not 2 <= len(found) <= MOST or max(map(len, found)) > 60:
        raise RecloomError(
            f"{path}: expected 2 to {MOST} topics of up to 60 characters, one a line; found {len(found)} lines"
        )
    return found


def _lacking(kind: Kind) -> str:
    return {
        "user": "no training interaction",
        "reason": "no training interaction of the user, or no attribute of the item",
        "title": "no title",
    }.get(kind, "no attribute")
