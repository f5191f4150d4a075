"""`recloom graph profile`: RLMRec's profiles of items and users by a language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recloom.command import command
from recloom.errors import RecloomError, at_least
from recloom.llm import LLMOptions
from recloom.schemas import SplitSpec

MOST = 100
"""Largest number of items in the prompt of a user."""


@command("graph profile")
def profile(
    data: Path,
    *,
    llm: LLMOptions,
    split: SplitSpec = SplitSpec(),  # noqa: B008 - frozen
    split_path: Path | None = None,
    description: str = "description",
    columns: list[str] | None = None,
    sample: int = 10,
    seed: int = 0,
    answer_tokens: int = 700,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Ask a language model who would like each item, and then what each user likes (RLMRec).

    Users follow when all items are done: their prompt holds a sample of their training items, each with its profile.
    Turn both files into vectors with `recloom embed`, for the losses RLMRecCon and RLMRecGen.

    Args:
        data: the prepared dataset.
        llm: the language model, what it may cost, and the ledger of its responses.
        split: how interactions are divided, as in training; only the training part is used.
        split_path: folder written by `recloom data split`, used instead of `split`.
        description: column of the items that describes them; an item is shown by its title and this.
        columns: attributes shown beside the title of an item without description, apart by blanks; by default all.
        sample: number of training items of a user in the prompt, sampled uniformly.
        seed: of the sample.
        answer_tokens: how long an answer may be.
        out: folder of `item-profiles.parquet` and `user-profiles.parquet`, by default the dataset; what failed goes
            beside them, to the same names with `.failures.jsonl`.
        overwrite: replace files that were made from other data, prompts or options.
    """
    at_least(1, sample=sample, answer_tokens=answer_tokens)
    at_least(0, seed=seed)
    if sample > MOST:
        raise RecloomError(f"a user is shown by at most {MOST} items; found --sample {sample}")
    from recloom.llm import (
        GeneratedTable,
        LLMSession,
        PlannedRounds,
        TableTarget,
        generate_tables,
        read_training,
    )

    from ..next_steps import after_profiles
    from .neighbours import Shown, sample_neighbours
    from .profiles import (  # fmt: skip
        MADE_FROM,
        Profile,
        UserProfile,
        about_items,
        about_users,
        item_records,
        placeholder_profiles,
        profile_table,
        summarizations,
    )

    rows = read_training(data, split, split_path)
    items = item_records(rows.catalog, description, columns)
    users = sample_neighbours(rows.train, "user_id", sample, seed)
    titles = {item: items.get(item, {}).get("title", item) for item in rows.catalog.items["item_id"]}
    first = about_items(items, answer_tokens)
    folder = out or data
    files = {"items": folder / "item-profiles.parquet", "users": folder / "user-profiles.parquet"}
    recipe: dict[str, Any] = {
        "data_hash": rows.card.data_hash(), "model": dict(llm.model.identity), "description": description,
        "columns": columns, "answer_tokens": answer_tokens, "item_prompt": first[0].prompt,
    }  # fmt: skip
    of_users = {"split": rows.spec.model_dump(mode="json"), "split_hash": rows.split_hash}
    prompt = about_users(dict(list(users.items())[:1]), titles, {}, answer_tokens)[0].prompt
    of_users = recipe | of_users | {"sample": sample, "seed": seed, "user_prompt": prompt}

    def ask(session: LLMSession) -> list[GeneratedTable]:
        later = PlannedRounds(
            len(users), lambda: about_users(users, titles, placeholder_profiles(users, items), answer_tokens)
        )
        found = session.answers(first, Profile, later=later, progress="item profiles")
        second = about_users(users, titles, summarizations(items, found), answer_tokens)
        liked = session.answers(second, UserProfile, progress="user profiles")
        nothing = dict.fromkeys(items, Shown([], []))
        return [
            profile_table("item_id", nothing, first, found),
            profile_table("user_id", users, second, liked),
        ]

    def next_command(counts: Sequence[int]) -> str:
        return after_profiles(data, files, bool(counts[1]), split, split_path) if counts[0] else ""

    targets = [
        TableTarget(files["items"], MADE_FROM, recipe),
        TableTarget(files["users"], MADE_FROM, of_users),
    ]
    generate_tables(llm, targets, ask, overwrite=overwrite, then=next_command)
