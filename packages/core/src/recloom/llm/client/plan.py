"""What requests would cost, before the first call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...errors import RecloomError
from .. import LanguageModel
from ..requests import LLMRequest
from .budget import Cost, Prices, worst_case
from .runner import distinct

if TYPE_CHECKING:
    from rich.table import Table

    from ..ledger.store import Ledger
    from .usage import Usage


@dataclass(frozen=True)
class Plan:
    """What a run would send.

    Attributes:
        requests: how many there are.
        repeated: how many are equal to an earlier one.
        cached: how many, of those left, the ledger holds.
        calls: how many are left to send.
        prompt_tokens: of the calls, as the model counts them.
        completion_tokens: at most.
        money: at most, None where prices are not known.
        currency: of the money.
        seconds: at the given rate, None without one.
        estimated: whether the model has no tokeniser at hand, so that the prompt tokens are estimated.
    """

    requests: int
    repeated: int
    cached: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None = None
    currency: str = ""
    seconds: float | None = None
    estimated: bool = False

    def after(self, usage: Usage) -> Plan:
        """With the rounds that came before, all of whose responses are held."""
        return replace(
            self,
            requests=self.requests + usage.requests,
            repeated=self.repeated + usage.repeated,
            cached=self.cached + usage.cached,
        )

    def table(self) -> Table:
        """Two columns: what, and how much."""
        from rich.table import Table

        table = Table("what", box=None, pad_edge=False)
        table.add_column("how much", justify="right")
        rows = {
            "requests": f"{self.requests:,}",
            "repeated": f"{self.repeated:,}",
            "in the ledger": f"{self.cached:,}",
            "calls": f"{self.calls:,}",
            f"prompt tokens{', estimated' if self.estimated else ''}": f"{self.prompt_tokens:,}",
            "completion tokens at most": f"{self.completion_tokens:,}",
            "money at most": "not known" if self.money is None else f"{self.money:,.4f} {self.currency}",
            "time": "not known" if self.seconds is None else _duration(self.seconds),
        }
        for row in rows.items():
            table.add_row(*row)
        return table

    def advice(self, flag: str = "--llm") -> str:
        """What the table does not say, in lines, and which options of the command (after `flag`) say more."""
        lines = ["Nothing was sent. A response that cannot be read is asked for once more."]
        if self.money is None:
            lines.append("For money, add prices per million tokens to the command:")
            lines.append(f"  {flag}.prices.prompt 0.15 {flag}.prices.completion 0.6")
        if self.seconds is None:
            lines.append(f"For time, add how many calls a second are answered: {flag}.rate 2")
        return "\n".join(lines)


def plan(
    model: LanguageModel,
    requests: Sequence[LLMRequest],
    ledger: Ledger | None,
    *,
    prices: Prices | None = None,
    rate: float | None = None,
) -> Plan:
    """Count what `ask` would do with these requests, and send nothing.

    Args:
        ledger: where responses are looked up; None = there is none yet.
        prices: what tokens cost.
        rate: calls per second, all those under way at the same time together.
    """
    if rate is not None and not rate > 0:
        raise RecloomError(f"rate must be a number of calls per second above 0; found {rate}")
    wanted, _ = distinct(model.identity, requests)
    left = missing_requests(model, requests, ledger)
    cost = sum((worst_case(model, request) for request in left), Cost())
    return Plan(
        len(requests), len(requests) - len(wanted), len(wanted) - len(left), cost.calls, cost.prompt_tokens,
        cost.completion_tokens, prices.cost(cost.prompt_tokens, cost.completion_tokens) if prices else None,
        prices.currency if prices else "", cost.calls / rate if rate else None,
        type(model).count_tokens is LanguageModel.count_tokens,
    )  # fmt: skip


def missing_requests(
    model: LanguageModel, requests: Sequence[LLMRequest], ledger: Ledger | None
) -> list[LLMRequest]:
    """The requests, each once, whose responses the ledger lacks; all of them where there is none yet."""
    wanted, _ = distinct(model.identity, requests)
    held = ledger.get_many(wanted) if ledger else {}
    return [request for key, request in wanted.items() if key not in held]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
    )
