"""How a command asks: one parameter `llm: Asking` of plain options, and the errand that comes of it.

    @command("profile")
    def profile(data: Path, *, llm: Asking) -> None:
        with llm.open() as errand:
            found = errand.answers(questions, Profile, progress="profiles")
        ...
        print(errand.bill)

With `--llm.run plan` the errand prints what asking would cost, with `--llm.run batch` it writes the questions for a
provider's batch, and ends the command: what stands after the last round is then never reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel

from ..errors import Finished, RecloomError, at_least
from ..terminal import command_line
from . import LanguageModel
from .budget import Budget, Meter, Prices
from .question import Question

if TYPE_CHECKING:
    from .answers import Answers
    from .asking import Asked
    from .bill import Bill
    from .ledger import Ledger

Wanted = TypeVar("Wanted", bound=BaseModel)
LIMITS = ("max_calls", "max_tokens", "max_money")


@dataclass(frozen=True)
class Later:
    """What the rounds to come will ask.

    Args:
        count: how many questions at most; 0 = this round is the last one.
        questions: gives them, in their largest form where their texts are not known yet; called for a plan alone.
    """

    count: int = 0
    questions: Callable[[], Sequence[Question]] = tuple


LAST = Later()


class NothingLeft(Finished):
    """A plan or a batch ends here, since the ledger holds every reply that the command would ask for."""


@dataclass(frozen=True)
class Asking:
    """Whom to ask, what it may cost, and where replies are kept.

    Args:
        model: the language model, such as `OpenAIChat`, `Transformers` or `Fake`.
        ledger: file of all replies, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
        max_calls: questions that may be sent.
        max_tokens: tokens of prompts and answers together.
        max_money: in the currency of the prices, which it needs.
        prices: money per million tokens: `--llm.prices.prompt 0.15 --llm.prices.completion 0.6`.
        offline: ask nothing; every reply must be in the ledger.
        run: `ask`, or only `plan` (print calls, tokens and money), or write a `batch` for the provider.
        batch_out: the file of requests that `batch` writes.
        rate: calls per second that the model answers, for the time in a plan.
    """

    model: LanguageModel
    ledger: Path | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    max_money: float | None = None
    prices: Prices | None = None
    offline: bool = False
    run: Literal["ask", "plan", "batch"] = "ask"
    batch_out: Path | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        at_least(0, **{f"--llm.{name}": getattr(self, name) for name in LIMITS})
        if self.max_money is not None and self.prices is None:
            raise RecloomError(
                f"--llm.max_money {self.max_money:g} needs prices per million tokens; found none. Add them, such as "
                "--llm.prices.prompt 0.15 --llm.prices.completion 0.6"
            )
        if self.rate is not None and not self.rate > 0:
            raise RecloomError(
                f"--llm.rate must be a number of calls per second above 0; found {self.rate:g}"
            )
        if self.run == "batch" and self.batch_out is None:
            raise RecloomError("a batch needs a file to be written to: --llm.batch_out FILE")
        if self.run != "batch" and self.batch_out is not None:
            raise RecloomError("--llm.batch_out is the file of --llm.run batch; say both or none")

    def open(self) -> Errand:
        """Open the ledger and start the meter.

        Raises RecloomError where offline there is no ledger.
        """
        from .ledger import Ledger, ledger_path

        budget = Budget(self.max_calls, self.max_tokens, self.max_money, self.prices)
        path = ledger_path(self.ledger)
        only_look = self.run != "ask"
        if only_look and not path.exists():
            return Errand(self, None, Meter(budget))
        if self.offline and not path.exists():
            raise RecloomError(
                f"--llm.offline asks nothing, and there is no ledger at {path} to take replies from. Name another "
                "with --llm.ledger, or leave --llm.offline out once, so that the command makes it."
            )
        return Errand(self, Ledger(path, offline=self.offline or only_look), Meter(budget))


class Errand:
    """Everything that one run of a command asks: rounds that share a ledger, a budget and a bill.

    A command with several rounds says in all but the last which questions come `later`, so that a plan, and an
    error that ends a round early, can speak of the whole.
    """

    def __init__(self, asking: Asking, ledger: Ledger | None, meter: Meter) -> None:
        self.asking, self.ledger, self.meter = asking, ledger, meter
        self.model = asking.model
        self.bills: list[Bill] = []

    def __enter__(self) -> Errand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ledger is not None:
            self.ledger.close()

    @property
    def bill(self) -> Bill:
        """What all rounds so far cost."""
        from .bill import Bill

        return sum(self.bills[1:], self.bills[0]) if self.bills else Bill()

    def ask(self, questions: Sequence[Question], *, later: Later = LAST, progress: str = "asking") -> Asked:
        """A reply or a failure for each question; `asking.ask` says more.

        Raises BudgetError before a call that might exceed the budget, RecloomError where offline a reply is
        missing, and Finished where the errand is a plan or a batch.
        """
        asked = self._round(questions, later, progress)
        self._no_further(later)
        return asked

    def answers(
        self,
        questions: Sequence[Question],
        kind: type[Wanted],
        *,
        later: Later = LAST,
        check: Callable[[int, Wanted], str] | None = None,
        progress: str = "asking",
    ) -> Answers[Wanted]:
        """An object of `kind` or a failure for each question, after one corrective attempt; else as `ask`.

        `check` takes the position of a question and its object, and says what is wrong with it, "" if nothing.
        """
        from .answers import answers_by

        def one_round(asked: Sequence[Question], what: str) -> Asked:
            return self._round(asked, later, what)

        found = answers_by(one_round, questions, kind, progress, check)
        self._no_further(later)
        return found

    def _round(self, questions: Sequence[Question], later: Later, progress: str) -> Asked:
        from .asking import Asked, ask_round
        from .bill import Bill, EndedEarly, error_of

        if self.asking.run != "ask":
            self._stop_where_any_is_missing(questions, later)
        if self.ledger is None:  # nothing to ask, and nothing was ever asked
            return Asked([], Bill(), [])
        try:
            asked = ask_round(
                self.model,
                questions,
                self.ledger,
                budget=self.meter,
                offline=self.asking.offline,
                progress=progress,
            )
        except EndedEarly as end:
            self.bills.append(end.bill)
            error = error_of(end.cause, self._whole(later), self.ledger.path, self._limits())
        else:
            self.bills.append(asked.bill)
            return asked
        raise error  # here, so that it keeps the cause it came with

    def _whole(self, later: Later) -> Bill:
        """The bill of all rounds, with those that never began."""
        bill = self.bill
        return replace(bill, questions=bill.questions + later.count, unasked=bill.unasked + later.count)

    def _limits(self) -> str:
        """The options that limit this errand."""
        given = [f"--llm.{name}" for name in LIMITS if getattr(self.asking, name) is not None]
        return f" ({', '.join(given)})" if given else ""

    def _stop_where_any_is_missing(self, questions: Sequence[Question], later: Later) -> None:
        """Answers that the ledger holds lead on to the next round; the first that it lacks ends the command."""
        from .plan import left_to_ask, plan

        if not left_to_ask(self.model, questions, self.ledger):
            return
        if self.asking.run == "batch":
            self._write_batch(questions)
        found = plan(
            self.model, [*questions, *later.questions()], self.ledger,
            prices=self.asking.prices, rate=self.asking.rate,
        ).after(self.bill)  # fmt: skip
        _show(found.table())
        print(found.advice)
        raise Finished

    def _write_batch(self, questions: Sequence[Question]) -> None:
        from .batch_files import write_batch
        from .ledger import ledger_path
        from .openai import OpenAIChat

        if not isinstance(self.model, OpenAIChat):
            raise RecloomError(
                "a batch is for a provider of OpenAI's protocol, --llm.model OpenAIChat; "
                f"found {type(self.model).__name__}"
            )
        path, out = ledger_path(self.asking.ledger), self.asking.batch_out
        assert out is not None  # Asking has seen to it
        written = write_batch(self.model, questions, self.ledger, out)
        print(
            f"wrote {', '.join(map(str, written.files))}: {written.requests:,} requests "
            f"({written.cached:,} replies are in {path} already)\n"
            "Send it to the provider. When the results are here:\n"
            f"  {command_line('llm', 'batch-import', 'RESULTS', '--requests', out, '--ledger', path)}"
        )
        raise Finished

    def _no_further(self, later: Later) -> None:
        """A plan or a batch never reaches what the command does with its replies."""
        if self.asking.run != "ask" and not later.count:
            print(f"Nothing is left to ask: the ledger holds all {self.bill.kept:,} replies.")
            raise NothingLeft


def _show(table: object) -> None:
    from rich.console import Console

    Console().print(table)
