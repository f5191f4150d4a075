"""The options of a command or a recommender that asks a language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...errors import RecloomError, at_least
from .. import LanguageModel
from .budget import Budget, BudgetTracker, Prices

if TYPE_CHECKING:
    from .session import LLMSession


LIMITS = ("max_calls", "max_tokens", "max_money")


@dataclass(frozen=True)
class LLMOptions:
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

    def open(self) -> LLMSession:
        """Open the ledger and start the meter.

        Raises RecloomError where offline there is no ledger.
        """
        from ..ledger.store import Ledger, ledger_path
        from .session import LLMSession

        budget = Budget(self.max_calls, self.max_tokens, self.max_money, self.prices)
        path = ledger_path(self.ledger)
        only_look = self.run != "ask"
        if only_look and not path.exists():
            return LLMSession(self, None, BudgetTracker(budget))
        if self.offline and not path.exists():
            raise RecloomError(
                f"--llm.offline asks nothing, and there is no ledger at {path} to take replies from. Name another "
                "with --llm.ledger, or leave --llm.offline out once, so that the command makes it."
            )
        return LLMSession(self, Ledger(path, offline=self.offline or only_look), BudgetTracker(budget))


def asking_commands() -> list[str]:
    """Names of the commands that ask a language model: those with an option of type `LLMOptions`."""
    from ...plugins import collect

    known = collect("register_commands").items()
    return sorted(
        name
        for name, function in known
        if any("LLMOptions" in str(kind) for kind in function.__annotations__.values())
    )
