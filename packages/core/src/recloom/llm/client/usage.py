"""What came of questions and what it cost; where asking ended early, how far it got and how to go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import RecloomError
from ..openai.redaction import without_secrets
from .budget import BudgetError


@dataclass(frozen=True)
class Usage:
    """What came of a list of questions, and what it cost.

    Attributes:
        questions: how many there were.
        repeated: how many were equal to an earlier one.
        cached: how many, of those left, the ledger held.
        calls: how many were asked and came back.
        failures: how many of the calls gave no reply; they are asked again the next time.
        prompt_tokens, completion_tokens: of the calls.
        money: their price, None where prices are not known.
        seconds: wall time.
        estimated: how many of the calls had their tokens estimated, since neither model nor server reported them.
        unasked: how many are still to ask, where asking ended early.
        currency: of the money.
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
    unasked: int = 0
    currency: str = ""

    @property
    def kept(self) -> int:
        """How many replies the ledger holds now."""
        return self.cached + self.calls - self.failures

    def __add__(self, other: Usage) -> Usage:
        """Of both together; money is None where one has none."""
        money = None if self.money is None or other.money is None else self.money + other.money
        return Usage(
            self.requests + other.requests, self.repeated + other.repeated, self.cached + other.cached,
            self.calls + other.calls, self.failures + other.failures, self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens, money, self.seconds + other.seconds,
            self.estimated + other.estimated, self.unasked + other.unasked, self.currency or other.currency,
        )  # fmt: skip

    def __str__(self) -> str:
        """Two lines: of the questions, and of what they cost."""
        repeated = f"{self.repeated:,} repeated, " if self.repeated else ""
        return (
            f"{self.requests:,} questions: {repeated}{self.cached:,} from the ledger, {self.calls:,} asked, "
            f"{self.failures:,} without a reply\n{self.cost}, {self.seconds:.1f} s"
        )

    @property
    def cost(self) -> str:
        """Tokens, with how many of the calls have them estimated, and money."""
        some = "" if self.estimated == self.calls else f" for {self.estimated:,} of {self.calls:,} calls"
        estimated = f" (estimated{some})" if self.estimated else ""
        money = "" if self.money is None else f", {self.money:.4f} {self.currency}".rstrip()
        return f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens{estimated}{money}"


class EndedEarly(Exception):
    """Carries what ended asking, and the bill of what had arrived by then; never shown."""

    def __init__(self, cause: BaseException, usage: Usage) -> None:
        super().__init__(str(cause))
        self.cause, self.usage = cause, usage


def error_of(cause: BaseException, usage: Usage, ledger: Path, limits: str = "") -> BaseException:
    """What to raise where asking ended early: the cause, and how far it got.

    An error that is none of Recloom's own stays as it is and gets a note.

    Args:
        bill: of all that was to be asked, not of the last round alone.
        ledger: where replies are kept.
        limits: the options that hold the budget, such as ` (--llm.max_calls)`.
    """
    far = how_far(usage, ledger)
    if isinstance(cause, KeyboardInterrupt):
        return KeyboardInterrupt(f"interrupted.\n{far}\nThe same command goes on from there.")
    if not isinstance(cause, RecloomError):
        cause.add_note(f"{far}\nThe same command goes on from there.")
        return cause
    reason = without_secrets(str(cause)).rstrip(".")
    if not isinstance(cause, BudgetError):
        return RecloomError(f"{reason}.\n{far}\nThe same command goes on from there.")
    again = f"; its limits{limits} count anew" if usage.calls else f" once its limits{limits} are larger"
    return BudgetError(f"{reason}.\n{far}\nThe same command goes on from there{again}.")


def how_far(usage: Usage, ledger: Path) -> str:
    """Two lines: what is kept of how much, and what this run had of it at which cost."""
    failed = f", {usage.failures:,} without a reply" if usage.failures else ""
    return (
        f"{usage.kept:,} of {usage.requests - usage.repeated:,} replies are kept in {ledger}, "
        f"{usage.unasked + usage.failures:,} are still to ask.\n"
        f"This run asked {usage.calls:,}{failed}: {usage.cost}."
    )
