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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel

from ..errors import Finished, RecloomError
from . import LanguageModel
from .budget import Budget, BudgetError, Meter, Prices
from .question import Question

if TYPE_CHECKING:
    from .answers import Answers
    from .asking import Asked, Bill
    from .ledger import Ledger

Wanted = TypeVar("Wanted", bound=BaseModel)


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
        if self.run == "batch" and self.batch_out is None:
            raise RecloomError("a batch needs a file to be written to: --llm.batch_out FILE")
        if self.run != "batch" and self.batch_out is not None:
            raise RecloomError("--llm.batch_out is the file of --llm.run batch; say both or none")

    def open(self) -> Errand:
        """Open the ledger and start the meter.

        Raises RecloomError where limits lack prices, or offline there is no ledger.
        """
        from .ledger import Ledger, ledger_path

        budget = Budget(self.max_calls, self.max_tokens, self.max_money, self.prices)
        path = ledger_path(self.ledger)
        only_look = self.run != "ask"
        if only_look and not path.exists():
            return Errand(self, None, Meter(budget))
        return Errand(self, Ledger(path, offline=self.offline or only_look), Meter(budget))


class Errand:
    """Everything that one run of a command asks: rounds that share a ledger, a budget and a bill.

    A command with several rounds says in all but the last which questions come `later`, in their largest form
    where their texts are not known yet. A plan counts them; nothing is asked for them.
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
        return sum(self.bills[1:], self.bills[0]) if self.bills else _no_bill()

    def ask(
        self, questions: Sequence[Question], *, later: Sequence[Question] = (), progress: str = "asking"
    ) -> Asked:
        """A reply or a failure for each question; `asking.ask` says more.

        Raises BudgetError before a call that might exceed the budget, RecloomError where offline a reply is
        missing, and Finished where the errand is a plan or a batch.
        """
        asked = self._round(questions, later, progress)
        self._no_further(later, len(questions))
        return asked

    def answers(
        self,
        questions: Sequence[Question],
        kind: type[Wanted],
        *,
        later: Sequence[Question] = (),
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
        self._no_further(later, len(questions))
        return found

    def _round(self, questions: Sequence[Question], later: Sequence[Question], progress: str) -> Asked:
        from .asking import Asked, ask

        if self.asking.run != "ask":
            self._stop_where_any_is_missing(questions, later)
        if self.ledger is None:  # nothing to ask, and nothing was ever asked
            return Asked([], _no_bill(), [])
        try:
            asked = ask(
                self.model,
                questions,
                self.ledger,
                budget=self.meter,
                offline=self.asking.offline,
                progress=progress,
            )
        except BudgetError as error:
            flags = "--llm.max_calls, --llm.max_tokens or --llm.max_money"
            raise BudgetError(f"{str(error).rstrip('.')} ({flags}).") from None
        self.bills.append(asked.bill)
        return asked

    def _stop_where_any_is_missing(self, questions: Sequence[Question], later: Sequence[Question]) -> None:
        """Answers that the ledger holds lead on to the next round; the first that it lacks ends the command."""
        from .plan import plan

        found = plan(
            self.model, [*questions, *later], self.ledger, prices=self.asking.prices, rate=self.asking.rate
        )
        missing = plan(self.model, questions, self.ledger) if later else found
        if missing.calls and self.asking.run == "plan":
            _show(found.table())
            print(
                "Nothing was asked. Each reply that cannot be read is asked for once more. "
                "Leave the plan out to ask, and keep to a limit with --llm.max_calls or --llm.max_money."
            )
            raise Finished
        if missing.calls:
            self._write_batch(questions)

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
            f"  recloom llm batch-import RESULTS --requests {out} --ledger {path}\n"
            "and then the command itself, or the same export again for what is asked next."
        )
        raise Finished

    def _no_further(self, later: Sequence[Question], count: int) -> None:
        """A plan or a batch never reaches what the command does with its replies."""
        if self.asking.run != "ask" and not later:
            print(f"Nothing is left to ask: the ledger holds all {count:,} replies. Run the command itself.")
            raise Finished


def _no_bill() -> Bill:
    from .asking import Bill

    return Bill(0, 0, 0, 0, 0, 0, 0, None, 0.0)


def _show(table: object) -> None:
    from rich.console import Console

    Console().print(table)
