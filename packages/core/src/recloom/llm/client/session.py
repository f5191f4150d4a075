"""How a command asks: one parameter `llm: LLMOptions` of plain options, and the errand that comes of it.

    @command("profile")
    def profile(data: Path, *, llm: LLMOptions) -> None:
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
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from ...errors import Finished, RecloomError
from ...next_steps import command_line
from ..requests import LLMRequest
from .budget import BudgetTracker
from .options import LIMITS, LLMOptions

if TYPE_CHECKING:
    from ..ledger.store import Ledger
    from ..structured import Answers
    from .runner import LLMResult
    from .usage import Usage

Wanted = TypeVar("Wanted", bound=BaseModel)


@dataclass(frozen=True)
class PlannedRounds:
    """What the rounds to come will ask.

    Args:
        count: how many questions at most; 0 = this round is the last one.
        questions: gives them, in their largest form where their texts are not known yet; called for a plan alone.
    """

    count: int = 0
    requests: Callable[[], Sequence[LLMRequest]] = tuple


LAST = PlannedRounds()


class NothingLeft(Finished):
    """A plan or a batch ends here, since the ledger holds every reply that the command would ask for."""


class LLMSession:
    """Everything that one run of a command asks: rounds that share a ledger, a budget and a bill.

    A command with several rounds says in all but the last which questions come `later`, so that a plan, and an
    error that ends a round early, can speak of the whole.
    """

    def __init__(self, options: LLMOptions, ledger: Ledger | None, meter: BudgetTracker) -> None:
        self.options, self.ledger, self.meter = options, ledger, meter
        self.model = options.model
        self.usages: list[Usage] = []

    def __enter__(self) -> LLMSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ledger is not None:
            self.ledger.close()

    @property
    def usage(self) -> Usage:
        """What all rounds so far cost."""
        from .usage import Usage

        return sum(self.usages[1:], self.usages[0]) if self.usages else Usage()

    def ask(
        self, requests: Sequence[LLMRequest], *, later: PlannedRounds = LAST, progress: str = "asking"
    ) -> LLMResult:
        """A reply or a failure for each question; `asking.ask` says more.

        Raises BudgetError before a call that might exceed the budget, RecloomError where offline a reply is
        missing, and Finished where the errand is a plan or a batch.
        """
        asked = self._round(requests, later, progress)
        self._no_further(later)
        return asked

    def answers(
        self,
        requests: Sequence[LLMRequest],
        kind: type[Wanted],
        *,
        later: PlannedRounds = LAST,
        check: Callable[[int, Wanted], str] | None = None,
        progress: str = "asking",
    ) -> Answers[Wanted]:
        """An object of `kind` or a failure for each question, after one corrective attempt; else as `ask`.

        `check` takes the position of a question and its object, and says what is wrong with it, "" if nothing.
        """
        from ..structured import answers_by

        def one_round(asked: Sequence[LLMRequest], what: str) -> LLMResult:
            return self._round(asked, later, what)

        found = answers_by(one_round, requests, kind, progress, check)
        self._no_further(later)
        return found

    def _round(self, requests: Sequence[LLMRequest], later: PlannedRounds, progress: str) -> LLMResult:
        from .runner import LLMResult, ask_round
        from .usage import EndedEarly, Usage, error_of

        if self.options.run != "ask":
            self._stop_where_any_is_missing(requests, later)
        if self.ledger is None:  # nothing to ask, and nothing was ever asked
            return LLMResult([], Usage(), [])
        try:
            asked = ask_round(
                self.model,
                requests,
                self.ledger,
                budget=self.meter,
                offline=self.options.offline,
                progress=progress,
            )
        except EndedEarly as end:
            self.usages.append(end.usage)
            error = error_of(end.cause, self._whole(later), self.ledger.path, self._limits())
        else:
            self.usages.append(asked.usage)
            return asked
        raise error  # here, so that it keeps the cause it came with

    def _whole(self, later: PlannedRounds) -> Usage:
        """The bill of all rounds, with those that never began."""
        usage = self.usage
        return replace(usage, requests=usage.requests + later.count, unasked=usage.unasked + later.count)

    def _limits(self) -> str:
        """The options that limit this errand."""
        given = [f"--llm.{name}" for name in LIMITS if getattr(self.options, name) is not None]
        return f" ({', '.join(given)})" if given else ""

    def _stop_where_any_is_missing(self, requests: Sequence[LLMRequest], later: PlannedRounds) -> None:
        """Answers that the ledger holds lead on to the next round; the first that it lacks ends the command."""
        from .plan import left_to_ask, plan

        if not left_to_ask(self.model, requests, self.ledger):
            return
        if self.options.run == "batch":
            self._write_batch(requests)
        found = plan(
            self.model, [*requests, *later.requests()], self.ledger,
            prices=self.options.prices, rate=self.options.rate,
        ).after(self.usage)  # fmt: skip
        _show(found.table())
        print(found.advice)
        raise Finished

    def _write_batch(self, requests: Sequence[LLMRequest]) -> None:
        from ..ledger.provider_batch import write_batch
        from ..ledger.store import ledger_path
        from ..openai.chat import OpenAIChat

        if not isinstance(self.model, OpenAIChat):
            raise RecloomError(
                "a batch is for a provider of OpenAI's protocol, --llm.model OpenAIChat; "
                f"found {type(self.model).__name__}"
            )
        path, out = ledger_path(self.options.ledger), self.options.batch_out
        assert out is not None  # LLMOptions has seen to it
        written = write_batch(self.model, requests, self.ledger, out)
        print(
            f"wrote {', '.join(map(str, written.files))}: {written.requests:,} requests "
            f"({written.cached:,} replies are in {path} already)\n"
            "Send it to the provider. When the results are here:\n"
            f"  {command_line('llm', 'batch-import', 'RESULTS', '--requests', out, '--ledger', path)}"
        )
        raise Finished

    def _no_further(self, later: PlannedRounds) -> None:
        """A plan or a batch never reaches what the command does with its replies."""
        if self.options.run != "ask" and not later.count:
            print(f"Nothing is left to ask: the ledger holds all {self.usage.kept:,} replies.")
            raise NothingLeft


def _show(table: object) -> None:
    from rich.console import Console

    Console().print(table)
