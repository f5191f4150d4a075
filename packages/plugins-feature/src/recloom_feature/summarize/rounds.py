"""LLM-TRSR: text-rich histories summarised in blocks of items (Zheng et al., WWW'24, pp. 3207-3216).

    hierarchical    S = merge(sum(block 1), ..., sum(block N))              N + 1 calls
    recurrent       S_1 = sum(block 1), S_j = update(S_{j-1}, block j)      N calls

All users' j-th blocks are asked about in one round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from recloom.language.errand import LAST, Errand, Later
from recloom.language.question import Failure, Question
from recloom.language.training_rows import Met

from .summarize_prompt import UNKNOWN, Prompts, Summary

Fitted = tuple[Question, int] | Failure


@dataclass
class Told:
    """What is known of a user so far; of the summaries the last one counts.

    Attributes:
        blocks: training rows, oldest first.
        summaries: one for each answer.
        shown: row numbers of the items behind each summary of a block.
        prompt: name and version of what was asked last.
        failure: why there is no summary.
    """

    blocks: list[Met]
    summaries: list[str] = field(default_factory=list)
    shown: list[list[int]] = field(default_factory=list)
    prompt: str = ""
    failure: Failure | None = None

    @property
    def source(self) -> list[int]:
        """Row numbers of all the items that the last summary was made from."""
        return [row for rows in self.shown for row in rows]


def recurrent(errand: Errand, prompts: Prompts, users: Sequence[Told], lines: dict[str, str]) -> None:
    """Renew each user's summary block by block."""

    def question(user: Told, at: int, known: str) -> Fitted:
        items = [lines[item] for item in user.blocks[at].items]
        return prompts.of_update(known, items) if at else prompts.of_block(items)

    rounds = max(len(user.blocks) for user in users)
    for at in range(rounds):
        active = [user for user in users if user.failure is None and len(user.blocks) > at]
        asked = [question(user, at, user.summaries[-1] if at else "") for user in active]
        coming = [(user, then) for user in active for then in range(at + 1, len(user.blocks))]
        later = _later([partial(question, user, then, unknown(user, then)) for user, then in coming])
        answered = _round(errand, active, asked, later, f"block {at + 1} of {rounds}")
        for user, count in answered:
            user.shown.append(user.blocks[at].rows[-count:])


def hierarchical(errand: Errand, prompts: Prompts, users: Sequence[Told], lines: dict[str, str]) -> None:
    """Summarise the blocks by themselves, and then merge the summaries."""
    owners = [user for user in users for _ in user.blocks]
    asked = [
        prompts.of_block([lines[item] for item in block.items]) for user in users for block in user.blocks
    ]
    merges = [[unknown(user, at) for at in range(len(user.blocks))] for user in users]
    later = _later([partial(prompts.of_merge, summaries) for summaries in merges])
    for user, count in _round(errand, owners, asked, later, "blocks"):
        user.shown.append(user.blocks[len(user.shown)].rows[-count:])
    active = [user for user in users if user.failure is None]
    merging = [prompts.of_merge(user.summaries) for user in active]
    for user, count in _round(errand, active, merging, LAST, "merging"):
        user.shown = user.shown[-count:]  # a summary that was trimmed away takes its items with it


def unknown(user: Told, at: int) -> str:
    """In place of a summary that a plan cannot know: as long as any, and no two alike."""
    return f"{user.blocks[0].user} {at} {UNKNOWN}"


METHODS: dict[str, Callable[[Errand, Prompts, Sequence[Told], dict[str, str]], None]] = {
    "recurrent": recurrent,
    "hierarchical": hierarchical,
}


def _later(fitted: Sequence[Callable[[], Fitted]]) -> Later:
    """Questions of the rounds to come; a prompt that is too long asks nothing."""

    def questions() -> list[Question]:
        found = (each() for each in fitted)
        return [one[0] for one in found if not isinstance(one, Failure)]

    return Later(len(fitted), questions)


def _round(
    errand: Errand, owners: Sequence[Told], asked: Sequence[Fitted], later: Later, progress: str
) -> list[tuple[Told, int]]:
    """Ask what can be asked; answers and failures go to their owners.

    Returns who was answered, with the number of lines that the prompt held, in order.
    """
    able, answered = [], []
    for owner, one in zip(owners, asked, strict=True):
        if isinstance(one, Failure):
            owner.failure = owner.failure or one
        else:
            able.append((owner, *one))
    answers = errand.answers([question for _, question, _ in able], Summary, later=later, progress=progress)
    for (owner, question, count), found in zip(able, answers.found, strict=True):
        owner.prompt = question.prompt
        if isinstance(found, Failure):
            owner.failure = owner.failure or found
        else:
            owner.summaries.append(found.summary.strip())
            answered.append((owner, count))
    return answered
