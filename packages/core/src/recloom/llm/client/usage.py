"""What requests cost and what came of them; and the error of a round that ended early: what is kept, how to go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import RecloomError
from ..openai.redaction import without_secrets
from .budget import BudgetError

GO_ON = "The same command goes on from there"


@dataclass(frozen=True)
class Usage:
    """What came of a list of requests, and what it cost.

    Attributes:
        requests: how many there were.
        repeated: how many were equal to an earlier one.
        cached: how many, of those left, the ledger held.
        calls: how many were sent and came back.
        failures: how many of the calls gave no response; they are sent again the next time.
        prompt_tokens, completion_tokens: of the calls.
        money: their price, None where prices are not known.
        seconds: wall time.
        estimated: how many of the calls had their tokens estimated, since neither model nor server reported them.
        unsent: how many are still to be sent, where a round ended early.
        currency: of the money.
        unusable: how many responses were not what was asked for, not even after a corrective attempt.
    """

    requests: int = 0
    repeated: int = 0
    cached: int = 0
    calls: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float | None = None
    seconds: float = 0.0
    estimated: int = 0
    unsent: int = 0
    currency: str = ""
    unusable: int = 0

    @property
    def kept(self) -> int:
        """How many responses the ledger holds now."""
        return self.cached + self.calls - self.failures

    def __add__(self, other: Usage) -> Usage:
        """Of both together; money is None where one has none."""
        money = None if self.money is None or other.money is None else self.money + other.money
        return Usage(
            self.requests + other.requests, self.repeated + other.repeated, self.cached + other.cached,
            self.calls + other.calls, self.failures + other.failures, self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens, money, self.seconds + other.seconds,
            self.estimated + other.estimated, self.unsent + other.unsent, self.currency or other.currency,
            self.unusable + other.unusable,
        )  # fmt: skip

    def __str__(self) -> str:
        """Two lines: the requests, and what they cost."""
        repeated = f"{self.repeated:,} repeated, " if self.repeated else ""
        unusable = f", {self.unusable:,} of no use" if self.unusable else ""
        return (
            f"{self.requests:,} requests: {repeated}{self.cached:,} from the ledger, {self.calls:,} sent, "
            f"{self.failures:,} without a response{unusable}\n{self.cost}, {self.seconds:.1f} s"
        )

    @property
    def cost(self) -> str:
        """Tokens, with how many of the calls have them estimated, and money."""
        some = "" if self.estimated == self.calls else f" for {self.estimated:,} of {self.calls:,} calls"
        estimated = f" (estimated{some})" if self.estimated else ""
        money = "" if self.money is None else f", {self.money:.4f} {self.currency}".rstrip()
        return f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens{estimated}{money}"


class EndedEarly(Exception):
    """Carries what ended a round, and the usage of what had arrived by then; never shown."""

    def __init__(self, cause: BaseException, usage: Usage) -> None:
        super().__init__(str(cause))
        self.cause, self.usage = cause, usage


def early_end(
    cause: BaseException, usage: Usage, ledger: Path, limits: str = "", *, in_batches: bool = False
) -> BaseException:
    """The error to raise where a round ended early: its cause, what is kept, and how to go on.

    An error that is none of Recloom's own stays as it is and gets a note.

    Args:
        usage: of all that was to be sent, not of the last round alone.
        ledger: where responses are kept.
        limits: the options that hold the budget, such as ` (--llm.max_calls)`.
        in_batches: whether there are batches to come of which nobody knows the requests yet.
    """
    kept = kept_so_far(usage, ledger, in_batches)
    if isinstance(cause, KeyboardInterrupt):
        return type(cause)(f"interrupted.\n{kept}\n{GO_ON}.")
    if not isinstance(cause, RecloomError):
        cause.add_note(f"{kept}\n{GO_ON}.")
        return cause
    reason = without_secrets(str(cause)).rstrip(".")
    if not isinstance(cause, BudgetError):
        return RecloomError(f"{reason}.\n{kept}\n{GO_ON}.")
    again = f"; its limits{limits} count anew" if usage.calls else f" once its limits{limits} are larger"
    return BudgetError(f"{reason}.\n{kept}\n{GO_ON}{again}.")


def kept_so_far(usage: Usage, ledger: Path, in_batches: bool = False) -> str:
    """Two lines: how many responses are kept of how many, and what this run sent at which cost."""
    failed = f", {usage.failures:,} without a response" if usage.failures else ""
    so_far, later = (" so far", ", and those of later batches") if in_batches else ("", "")
    return (
        f"{usage.kept:,} of {usage.requests - usage.repeated:,} responses{so_far} are kept in {ledger}, "
        f"{usage.unsent + usage.failures:,} are still to be sent{later}.\n"
        f"This run sent {usage.calls:,}{failed}: {usage.cost}."
    )
