"""A session with a language model: what one run of a command, or of an evaluation, asks.

    @command("profile")
    def profile(data: Path, *, llm: LLMOptions) -> None:
        with llm.open() as session:
            found = session.answers(requests, Profile, progress="profiles")
        ...
        print(session.usage)

With `--llm.run plan` the session prints what the requests would cost, with `--llm.run batch` it writes them to a
file for the provider, and then ends the command: what follows the last round is never reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from ...errors import Finished, RecloomError
from ...next_steps import command_line
from ..requests import Failure, LLMRequest
from .budget import BudgetTracker
from .options import LIMITS, LLMCallOptions, LLMOptions, llm_options
from .usage import Usage

if TYPE_CHECKING:
    from ..ledger.store import Ledger
    from ..structured import Answers
    from .runner import LLMResult

Wanted = TypeVar("Wanted", bound=BaseModel)


@dataclass(frozen=True)
class PlannedRounds:
    """The requests of the rounds to come.

    Args:
        count: how many at most; 0 = this round is the last one.
        requests: gives them, in their largest form where their texts are not known yet; called for a plan alone.
    """

    count: int = 0
    requests: Callable[[], Sequence[LLMRequest]] = tuple


LAST = PlannedRounds()


class NothingToSend(Finished):
    """A plan or a batch ends here, since the ledger holds every response that the command would ask for."""


class BatchPlanned(Exception):
    """The requests of this batch are noted for a plan or a batch file, and there are no responses; never shown."""


class LLMSession:
    """Rounds of requests that share a ledger, a budget and the usage.

    A command with several rounds says in all but the last which requests come `later`, so that a plan, and the error
    of a round that ended early, can speak of the whole.

    Args:
        options: of whom the requests are sent to; while the session is open, it is `options.session`.
        call: limits, prices and what is done with the requests.
        ledger: None = there is none yet, and nothing is sent.
        tracker: holds the rounds to the budget.
        in_batches: whether requests come batch by batch, as in an evaluation. A plan, or a file for the provider, is
            then made of all of them by `finish`, and until then BatchPlanned is raised in each batch.
    """

    def __init__(
        self,
        options: LLMOptions,
        call: LLMCallOptions,
        ledger: Ledger | None,
        tracker: BudgetTracker,
        *,
        in_batches: bool = False,
    ) -> None:
        self.options, self.call, self.ledger, self.tracker = options, call, ledger, tracker
        self.model = options.model
        self.in_batches = in_batches
        self.usages: list[Usage] = []
        self._failure: Failure | None = None
        self._planned: list[LLMRequest] = []

    def __enter__(self) -> LLMSession:
        vars(self.options)["_session"] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger; what it holds is kept."""
        if vars(self.options).get("_session") is self:
            del vars(self.options)["_session"]
        if self.ledger is not None:
            self.ledger.close()

    @property
    def flag(self) -> str:
        """What the options of this session begin with on a command line."""
        return "--model.recommender.llm" if self.in_batches and self.call is self.options else "--llm"

    @property
    def usage(self) -> Usage:
        """Of all rounds so far."""
        return sum(self.usages[1:], self.usages[0]) if self.usages else Usage()

    def ask(
        self, requests: Sequence[LLMRequest], *, later: PlannedRounds = LAST, progress: str = "asking"
    ) -> LLMResult:
        """A response or a failure for each request; `runner.ask` says more.

        Raises BudgetError before a call that might exceed the budget, RecloomError where offline a response is
        missing, and Finished (BatchPlanned in batches) where the session is a plan or writes a batch.
        """
        result = self._round(requests, later, progress)
        self._end_unless_asking(later)
        return result

    def answers(
        self,
        requests: Sequence[LLMRequest],
        kind: type[Wanted],
        *,
        later: PlannedRounds = LAST,
        check: Callable[[int, Wanted], str] | None = None,
        progress: str = "asking",
    ) -> Answers[Wanted]:
        """An object of `kind` or a failure for each request, after one corrective attempt; else as `ask`.

        `check` takes the position of a request and its object, and says what is wrong with it, "" if nothing.
        """
        from ..structured import ask_for_objects

        def one_round(sent: Sequence[LLMRequest], what: str) -> LLMResult:
            return self._round(sent, later, what)

        found = ask_for_objects(one_round, requests, kind, progress, check)
        if found.unusable:
            self.usages.append(Usage(unusable=found.unusable, money=0.0))
        self._end_unless_asking(later)
        return found

    def finish(self) -> None:
        """After the last batch: print the plan or write the batch file of all of them.

        Raises Finished where the session is a plan or writes a batch, and RecloomError where a request got no
        response: nothing is measured or recommended from what is left.
        """
        if self._planned:
            self._end_with(self._planned, [])
        if self.call.run != "ask":
            raise self._nothing_to_send()
        usage = self.usage
        if usage.failures and self._failure is not None and self.ledger is not None:
            raise RecloomError(
                f"{usage.failures:,} of {usage.requests - usage.repeated:,} requests got no response, so there is no "
                f"result; the first: {self._failure.reason.rstrip('.')}. {usage.kept:,} responses are kept in "
                f"{self.ledger.path}, and the same command sends the others again."
            )

    def _round(self, requests: Sequence[LLMRequest], later: PlannedRounds, progress: str) -> LLMResult:
        from .runner import LLMResult, ask_round
        from .usage import EndedEarly, early_end

        if self.call.run != "ask":
            self._end_where_any_is_missing(requests, later)
        if self.ledger is None:  # nothing to send, and nothing was ever sent
            return LLMResult([], Usage(), [])
        try:
            result = ask_round(
                self.model,
                requests,
                self.ledger,
                budget=self.tracker,
                offline=self.call.offline,
                progress="" if self.in_batches else progress,  # an evaluation has a bar of its own
            )
        except EndedEarly as end:
            self.usages.append(end.usage)
            whole, limits = self._whole(later), self._limits()
            error = early_end(end.cause, whole, self.ledger.path, limits, in_batches=self.in_batches)
        else:
            self.usages.append(result.usage)
            if self._failure is None:
                self._failure = next((one for one in result.responses if isinstance(one, Failure)), None)
            return result
        raise error  # here, so that it keeps the cause it came with

    def _whole(self, later: PlannedRounds) -> Usage:
        """The usage of all rounds, with those that never began."""
        usage = self.usage
        return replace(usage, requests=usage.requests + later.count, unsent=usage.unsent + later.count)

    def _limits(self) -> str:
        """The options that limit this session."""
        given = [f"{self.flag}.{name}" for name in LIMITS if getattr(self.call, name) is not None]
        return f" ({', '.join(given)})" if given else ""

    def _end_where_any_is_missing(self, requests: Sequence[LLMRequest], later: PlannedRounds) -> None:
        """Responses that the ledger holds lead on to the next round; the first that it lacks ends the command."""
        from .plan import missing_requests

        if not missing_requests(self.model, requests, self.ledger):
            return
        if self.in_batches:
            self._planned += [*requests, *(later.requests() if self.call.run == "plan" else ())]
            raise BatchPlanned
        self._end_with(requests, later.requests() if self.call.run == "plan" else ())

    def _end_with(self, requests: Sequence[LLMRequest], later: Sequence[LLMRequest]) -> None:
        """Print the plan, or write the batch file, and end the command."""
        from .plan import plan

        if self.call.run == "batch":
            self._write_batch(requests)
            raise Finished
        found = plan(
            self.model, [*requests, *later], self.ledger, prices=self.call.prices, rate=self.call.rate
        ).after(self.usage)
        _print(found.table())
        print(found.advice(self.flag))
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
        path, out = ledger_path(self.call.ledger), self.call.batch_out
        assert out is not None  # LLMCallOptions has seen to it
        written = write_batch(self.model, requests, self.ledger, out)
        print(
            f"wrote {', '.join(map(str, written.files))}: {written.requests:,} requests "
            f"({written.cached:,} responses are in {path} already)\n"
            "Send it to the provider. When the results are here:\n"
            f"  {command_line('llm', 'batch-import', 'RESULTS', '--requests', out, '--ledger', path)}"
        )

    def _end_unless_asking(self, later: PlannedRounds) -> None:
        """A plan or a batch never reaches what the command does with its responses."""
        if self.call.run != "ask" and not later.count and not self.in_batches:
            raise self._nothing_to_send()

    def _nothing_to_send(self) -> NothingToSend:
        print(f"Nothing is left to send: the ledger holds all {self.usage.kept:,} responses.")
        return NothingToSend()


class LLMSessions:
    """The sessions of all the language models that some objects ask, such as the modules of a recommender.

    What is open already stays with whoever opened it. As a context it finishes the sessions, after an error it only
    closes them.

    Args:
        parts: the objects whose attributes are searched for LLMOptions.
        call: limits, ledger and the rest, in place of those of the options themselves.
    """

    def __init__(self, parts: Iterable[object] = (), call: LLMCallOptions | None = None) -> None:
        found = llm_options(parts)
        if call is not None and call != LLMCallOptions() and not found:
            raise RecloomError(
                "options of --llm were given, but this run asks no language model. Leave them out."
            )
        self.sessions: list[LLMSession] = []
        try:
            for options in found:
                if not options.is_open:
                    self.sessions.append(options.open(call, in_batches=True).__enter__())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LLMSessions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if error else self.finish()

    @property
    def usage(self) -> Usage | None:
        """Of all of them; None where there is none."""
        each = [session.usage for session in self.sessions]
        return sum(each[1:], each[0]) if each else None

    def finish(self) -> None:
        """Finish every session, which may raise as `LLMSession.finish` does, and close it."""
        ended: Finished | None = None
        try:
            for session in self.sessions:
                try:
                    session.finish()
                except Finished as end:
                    ended = end
        finally:
            self.close()
        if ended is not None:
            raise ended

    def close(self) -> None:
        """Close every session."""
        for session in self.sessions:
            session.close()


def _print(table: object) -> None:
    from rich.console import Console

    Console().print(table)
