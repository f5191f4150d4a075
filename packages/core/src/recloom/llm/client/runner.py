"""Ask a language model many questions: each once, each reply kept the moment it arrives, never over the budget."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import RecloomError
from .bill import Bill, EndedEarly, error_of
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
    try:
        return ask_round(model, questions, ledger, budget=budget, offline=offline, progress=progress)
    except EndedEarly as end:
        error = error_of(end.cause, end.bill, ledger.path)
    raise error  # outside, so that it keeps the cause it came with


def ask_round(
    model: LanguageModel,
    questions: Sequence[Question],
    ledger: Ledger,
    *,
    budget: Budget | Meter | None = None,
    offline: bool = False,
    progress: str = "asking",
) -> Asked:
    """`ask` for one of several rounds: what ends it early is raised as EndedEarly, with the bill of this round."""
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
    ended: BaseException | None = None
    if missing:
        refuse_secrets("the identity of the language model", dumps(dict(identity)))
        with Progress(progress, len(wanted), cached) as bar:
            run = Run(model, identity, ledger, meter, bar)
            run.run(missing)
        found, ended = found | run.found, run.error
    if ended:  # a reply may have been kept by a thread that nobody waited for
        found = {**ledger.get_many(missing), **found}
    bill = _bill(questions, wanted, found, missing, meter)
    bill = replace(bill, seconds=time.perf_counter() - begun)
    if ended:
        raise EndedEarly(ended, bill)
    return Asked([found[key] for key in keys], bill, keys)


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
    asked = [found[key] for key in missing if key in found]
    replies = [reply for reply in asked if isinstance(reply, Reply)]
    tokens = sum(r.prompt_tokens for r in replies), sum(r.completion_tokens for r in replies)
    prices = meter.budget.prices
    return Bill(
        questions=len(questions), repeated=len(questions) - len(wanted), cached=len(wanted) - len(missing),
        calls=len(asked), failures=len(asked) - len(replies), prompt_tokens=tokens[0], completion_tokens=tokens[1],
        money=prices.cost(*tokens) if prices else None, currency=prices.currency if prices else "",
        estimated=sum(r.estimated for r in replies), unasked=len(missing) - len(asked),
    )  # fmt: skip
