"""What requests may cost: prices, a hard budget, and the tracker that holds a run to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ...errors import RecloomError, at_least
from ..requests import Failure, LLMRequest, LLMResponse

if TYPE_CHECKING:
    from .. import LanguageModel

PER_MESSAGE = 4
PER_CONVERSATION = 3
"""Tokens that a chat format adds, as OpenAI documents them for its own; other formats differ by a few."""


class BudgetError(RecloomError):
    """The budget does not reach for what is left to send; what was answered is kept."""


@dataclass(frozen=True)
class Prices:
    """Money per million tokens."""

    prompt: float
    completion: float
    currency: str = "USD"

    def __post_init__(self) -> None:
        at_least(0, prompt_price=self.prompt, completion_price=self.completion)

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Money for so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Budget:
    """Limits that a run does not exceed; None = no limit.

    Args:
        calls: requests sent; every one of a batch counts.
        tokens: of prompts and completions together.
        money: in the currency of the prices, which it needs.
        prices: what tokens cost; with them alone nothing is limited, but the usage is in money.
    """

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    prices: Prices | None = None

    def __post_init__(self) -> None:
        at_least(0, calls=self.calls, tokens=self.tokens, money=self.money)
        if self.money is not None and self.prices is None:
            raise RecloomError(
                f"a budget of {self.money:g} in money needs prices per million tokens; found none"
            )


@dataclass(frozen=True)
class Cost:
    """Calls and tokens: of a request at worst, or of what was sent."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    counted: int = field(default=0, compare=False)
    """Tokens of the prompt as the model counts them, where `prompt_tokens` expects more."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def __sub__(self, other: Cost) -> Cost:
        return self + Cost(-other.calls, -other.prompt_tokens, -other.completion_tokens)


def worst_case(model: LanguageModel, request: LLMRequest) -> Cost:
    """What a request costs at most: its prompt as the model counts tokens, and n answers of full length.

    A request with options costs its prompt, the options, and the one token with which a server scores them.
    """
    parts = [*(message["content"] for message in request.messages), *(request.options or ())]
    prompt = sum(map(model.count_tokens, parts)) + PER_MESSAGE * len(request.messages) + PER_CONVERSATION
    answers = 1 if request.options is not None else request.n * request.max_tokens
    return Cost(1, prompt, answers, counted=prompt)


class BudgetTracker:
    """Holds one run, or several that share it, to a budget.

    What goes out is set aside at its worst case; when responses arrive, what they say they cost takes its place.
    A request that failed stays at its worst case, since nobody knows what it cost. Where prompts turn out
    longer in all than `count_tokens` said, later ones are taken as longer by the same share.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.spent = Cost()
        self.set_aside = Cost()
        self._counted = self._reported = 0

    def worst(self, model: LanguageModel, requests: Sequence[LLMRequest]) -> list[Cost]:
        """The worst case of each request; tokens are counted only where they are limited."""
        if self.budget.tokens is None and self.budget.money is None:
            return [Cost(1)] * len(requests)
        longer = max(1.0, self._reported / self._counted) if self._counted else 1.0
        costs = [worst_case(model, request) for request in requests]
        return [replace(cost, prompt_tokens=math.ceil(cost.prompt_tokens * longer)) for cost in costs]

    def fits(self, more: Sequence[Cost]) -> bool:
        """Whether what is spent, what is under way and this stay within the budget."""
        total, limit = sum(more, self.spent + self.set_aside), self.budget
        return (
            (limit.calls is None or total.calls <= limit.calls)
            and (limit.tokens is None or total.prompt_tokens + total.completion_tokens <= limit.tokens)
            and (limit.money is None or self.money(total) <= limit.money)
        )

    def money(self, cost: Cost) -> float:
        """Its price; 0 where prices are not known."""
        prices = self.budget.prices
        return prices.cost(cost.prompt_tokens, cost.completion_tokens) if prices else 0.0

    def send(self, worst: Sequence[Cost]) -> None:
        """Set the worst case of a batch aside."""
        self.set_aside = sum(worst, self.set_aside)

    def settle(self, worst: Sequence[Cost], responses: Sequence[LLMResponse | Failure]) -> None:
        """The batch is back, whole or in part: put what it cost in place of what was set aside."""
        for cost, response in itertools.zip_longest(worst, responses):
            self.set_aside -= cost
            if isinstance(response, LLMResponse) and response.prompt_tokens + response.completion_tokens:
                self.spent += Cost(1, response.prompt_tokens, response.completion_tokens)
                self._counted += cost.counted
                self._reported += response.prompt_tokens
            else:
                self.spent += cost

    def __str__(self) -> str:
        spent, limit = self.spent, self.budget
        parts = []
        if limit.calls is not None:
            parts.append(f"{spent.calls:,} of {limit.calls:,} calls")
        if limit.tokens is not None:
            parts.append(f"{spent.prompt_tokens + spent.completion_tokens:,} of {limit.tokens:,} tokens")
        if limit.money is not None and limit.prices:
            parts.append(f"{self.money(spent):.4f} of {limit.money:.4f} {limit.prices.currency}")
        return ", ".join(parts) or "no limit"
