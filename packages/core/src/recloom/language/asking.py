"""Ask a language model many questions: each once, each reply kept the moment it arrives, never over the budget."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import RecloomError
from .budget import Budget, Meter
from .progress import Progress
from .question import Failure, Question, Reply
from .reply_lines import dumps
from .secrecy import refuse_secrets
from .sending import Run

if TYPE_CHECKING:
    from . import LanguageModel
    from .ledger import Ledger


@dataclass(frozen=True)
class Bill:
    """What came of a list of questions, and what it cost.

    Attributes:
        questions: how many there were.
        repeated: how many were equal to an earlier one.
        cached: how many, of those left, the ledger held.
        calls: how many were asked.
        failures: how many of the calls gave no reply; they are asked again the next time.
        prompt_tokens, completion_tokens: of the calls, as the model reported them; scores report none.
        money: their price, None where prices are not known.
        seconds: wall time.
    """

    questions: int
    repeated: int
    cached: int
    calls: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None
    seconds: float

    def __add__(self, other: Bill) -> Bill:
        """Of both together; money is None where one has none."""
        money = None if self.money is None or other.money is None else self.money + other.money
        return Bill(
            self.questions + other.questions, self.repeated + other.repeated, self.cached + other.cached,
            self.calls + other.calls, self.failures + other.failures, self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens, money, self.seconds + other.seconds,
        )  # fmt: skip

    def __str__(self) -> str:
        money = "" if self.money is None else f", {self.money:.4f} in money"
        return (
            f"{self.questions:,} questions: {self.repeated:,} repeated, {self.cached:,} from the ledger, "
            f"{self.calls:,} asked, {self.failures:,} of them failed; {self.prompt_tokens:,} prompt and "
            f"{self.completion_tokens:,} completion tokens{money}, {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Asked:
    """A reply or a failure for each question, in their order, its key in the ledger, and the bill.

    Equal questions share one object.
    """

    replies: list[Reply | Failure]
    bill: Bill
    keys: list[str]


def ask(
    model: LanguageModel,
    questions: Sequence[Question],
    ledger: Ledger,
    *,
    budget: Budget | Meter | None = None,
    offline: bool = False,
    progress: str = "asking",
) -> Asked:
    """Answer every question, from the ledger where it can, else by asking the model.

    Equal questions are asked once. A question that the model cannot answer becomes a Failure; any other error
    ends the run once what is under way has arrived. Interrupted or killed, the run loses what is under way and
    nothing else: the same call goes on from there.

    Args:
        model: who is asked, in batches of its `batch_size`, up to its `concurrency` at a time.
        questions: of any kinds; those with equal `settings` go out together, longest first.
        ledger: where replies are looked up and kept.
        budget: limits; a Meter holds several runs to one budget.
        offline: ask nothing; a reply that the ledger lacks is an error.
        progress: what the progress bar on a terminal says.

    Raises BudgetError before the first batch that might exceed the budget.
    """
    begun = time.perf_counter()
    identity = model.identity
    wanted, keys = distinct(identity, questions)
    found: dict[str, Reply | Failure] = dict(ledger.get_many(wanted))
    cached = len(found)
    missing = {key: question for key, question in wanted.items() if key not in found}
    if missing and (offline or ledger.offline):
        raise RecloomError(
            f"offline, and {ledger.path} lacks the replies to {len(missing):,} of {len(wanted):,} questions to "
            f"{identity.get('class')}. Ask them without --llm.offline, or import them with `recloom llm import`."
        )
    meter = budget if isinstance(budget, Meter) else Meter(budget or Budget())
    if missing:
        refuse_secrets("the identity of the language model", dumps(dict(identity)))
        with Progress(progress, len(wanted), cached) as bar:
            found |= Run(model, identity, ledger, meter, bar).run(missing)
    bill = _bill(questions, wanted, found, missing, meter)
    return Asked([found[key] for key in keys], replace(bill, seconds=time.perf_counter() - begun), keys)


def distinct(
    identity: Mapping[str, Any], questions: Sequence[Question]
) -> tuple[dict[str, Question], list[str]]:
    """Every question once by its key, in the order of their first occurrence, and the key of each position."""
    keys = [question.key(identity) for question in questions]
    wanted: dict[str, Question] = {}
    for key, question in zip(keys, questions, strict=True):
        wanted.setdefault(key, question)
    return wanted, keys


def _bill(
    questions: Sequence[Question],
    wanted: Mapping[str, Question],
    found: Mapping[str, Reply | Failure],
    missing: Mapping[str, Question],
    meter: Meter,
) -> Bill:
    replies = [reply for key in missing if isinstance(reply := found[key], Reply)]
    tokens = sum(r.prompt_tokens for r in replies), sum(r.completion_tokens for r in replies)
    prices = meter.budget.prices
    return Bill(
        len(questions), len(questions) - len(wanted), len(wanted) - len(missing), len(missing),
        len(missing) - len(replies), *tokens, prices.cost(*tokens) if prices else None, 0.0,
    )  # fmt: skip
