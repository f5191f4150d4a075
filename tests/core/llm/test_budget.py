"""A budget is never exceeded, whatever is under way; a plan counts by hand."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest
from recloom.errors import LLMRequestError, RecloomError
from recloom.llm import Generation, LanguageModel
from recloom.llm.client.budget import Budget, BudgetError, BudgetTracker, Cost, Prices, worst_case
from recloom.llm.client.plan import plan
from recloom.llm.client.runner import ask
from recloom.llm.ledger.store import Ledger
from recloom.llm.requests import LLMRequest, LLMResponse
from rich.console import Console


@dataclass
class Spent:
    calls: int = 0
    tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Toy(LanguageModel):
    """One token for each character of a prompt; answers with `share` of what it may."""

    spent: Spent = field(default_factory=Spent)
    batch_size: int = 1
    concurrency: int = 1
    share: float = 1.0
    hidden: int = 0

    without_effect = ("spent", "batch_size", "concurrency", "share", "hidden")

    def count_tokens(self, text):
        return len(text)

    def generate(self, messages, *, n=1, max_tokens=256, **options):
        time.sleep(0.001)
        prompt = len(messages[0]["content"]) + 7 + self.hidden
        answer = int(n * max_tokens * self.share)
        with self.spent.lock:
            self.spent.calls += 1
            self.spent.tokens += prompt + answer
        if "refuse" in messages[0]["content"]:
            raise LLMRequestError("refused")
        return Generation(["a"] * n, prompt, answer)


def some(count: int, **more) -> list[LLMRequest]:
    return [
        LLMRequest(({"role": "user", "content": f"{n:093}"},), "p@1", max_tokens=50, **more)
        for n in range(count)
    ]


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def test_the_worst_case_by_hand():
    two = ({"role": "system", "content": "12345"}, {"role": "user", "content": "1234567"})
    assert worst_case(Toy(), LLMRequest(two, n=3, max_tokens=20)) == Cost(1, 12 + 2 * 4 + 3, 60)
    assert worst_case(Toy(), LLMRequest(two, options=("yes", "no"))) == Cost(1, 12 + 5 + 2 * 4 + 3, 1)
    assert worst_case(Toy(), some(1)[0]) == Cost(1, 100, 50)


def test_prices_by_hand():
    assert Prices(0.15, 0.6).cost(1_000_000, 500_000) == pytest.approx(0.45)
    assert Prices(2, 8).cost(100, 50) == 0.0006


@pytest.mark.parametrize(("batch_size", "concurrency"), [(1, 1), (4, 1), (1, 8), (3, 4)])
@pytest.mark.parametrize(
    ("budget", "calls"),
    [
        (Budget(calls=10), 10),
        (Budget(tokens=1500), 10),
        (Budget(tokens=1499), 9),
        (Budget(money=0.006, prices=Prices(2, 8)), 10),
        (Budget(money=0.005999, prices=Prices(2, 8)), 9),
        (Budget(calls=0), 0),
    ],
    ids=str,
)
def test_exactly_what_fits_is_asked_where_every_answer_has_full_length(
    ledger, budget, calls, batch_size, concurrency
):
    model = Toy(batch_size=batch_size, concurrency=concurrency)
    with pytest.raises(BudgetError) as told:
        ask(model, some(30), ledger, budget=budget)
    assert model.spent.calls == calls
    said = f"{calls} of 30 responses are kept in {ledger.path}, {30 - calls} are still to be sent."
    assert said in str(told.value)
    again = "; its limits count anew." if calls else " once its limits are larger."
    assert str(told.value).endswith(f"The same command goes on from there{again}")
    assert len(ledger.get_many(q.key(model.identity) for q in some(30))) == calls


def test_the_error_says_what_was_spent(ledger):
    budget = Budget(calls=100, tokens=500, money=1, prices=Prices(2, 8, "EUR"))
    with pytest.raises(BudgetError, match=r"3 of 100 calls, 450 of 500 tokens, 0.0018 of 1.0000 EUR"):
        ask(Toy(), some(5), ledger, budget=budget)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_short_answers_leave_room_for_more_and_the_limit_holds(ledger, concurrency):
    model = Toy(concurrency=concurrency, share=0.2)  # 110 tokens a call, 150 at worst
    with pytest.raises(BudgetError):
        ask(model, some(200), ledger, budget=Budget(tokens=5000))
    assert model.spent.tokens <= 5000
    assert (
        model.spent.calls == 45
    )  # after 44 calls 4,840 are spent; 45 * 110 + 150 exceeds the limit, 44 * 110 + 150 does not


@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_run_goes_on_under_a_larger_budget_and_pays_nothing_twice(ledger, concurrency):
    model = Toy(concurrency=concurrency)
    with pytest.raises(BudgetError):
        ask(model, some(30), ledger, budget=Budget(calls=12))
    done = ask(model, some(30), ledger, budget=Budget(calls=18, prices=Prices(2, 8)))
    assert (done.usage.cached, done.usage.calls, model.spent.calls) == (12, 18, 30)
    assert done.usage.money == pytest.approx(18 * 0.0006)
    assert ask(model, some(30), ledger, budget=Budget(calls=0)).usage.calls == 0


def test_a_meter_holds_several_runs_to_one_budget(ledger):
    model, meter = Toy(concurrency=4), BudgetTracker(Budget(calls=25))
    ask(model, some(15), ledger, budget=meter)
    with pytest.raises(BudgetError, match="25 of 25 calls"):
        ask(model, some(40), ledger, budget=meter)
    assert model.spent.calls == 25
    assert meter.set_aside == Cost()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_what_failed_stays_at_its_worst_case(ledger, concurrency):
    refused = [
        LLMRequest(({"role": "user", "content": f"refuse {n:086}"},), max_tokens=50) for n in range(30)
    ]
    model = Toy(concurrency=concurrency)
    with pytest.raises(BudgetError, match="1,500 of 1,500 tokens"):
        ask(model, refused, ledger, budget=Budget(tokens=1500))
    assert model.spent.calls == 10


def test_prompts_that_turn_out_longer_are_expected_to_stay_so(ledger):
    model = Toy(hidden=100, share=0.0)  # 200 tokens where 100 were counted
    with pytest.raises(BudgetError):
        ask(model, some(30), ledger, budget=Budget(tokens=1000))
    assert model.spent.tokens <= 1000
    assert model.spent.calls == 4  # 800 are spent; a fifth may cost 200 + 50


@pytest.mark.parametrize("wrong", [{"calls": -1}, {"tokens": float("nan")}, {"money": 1.0}])
def test_a_budget_that_cannot_be_kept_is_refused(wrong):
    with pytest.raises(RecloomError, match=r"must be at least 0|needs prices"):
        Budget(**wrong)


def test_a_plan_counts_by_hand_and_asks_nothing(ledger):
    model = Toy()
    ask(model, some(4), ledger)
    found = plan(model, some(10) * 2, ledger, prices=Prices(2, 8), rate=0.001)
    assert (found.requests, found.repeated, found.cached, found.calls) == (20, 10, 4, 6)
    assert (found.prompt_tokens, found.completion_tokens) == (600, 300)
    assert found.money == pytest.approx(6 * 0.0006)
    assert found.seconds == pytest.approx(6000)
    assert model.spent.calls == 4
    console = Console(width=80)
    with console.capture() as shown:
        console.print(found.table())
    words = " ".join(shown.get().split())
    assert (
        "calls 6 prompt tokens 600 completion tokens at most 300 money at most 0.0036 USD time 1 h 40 min"
        in words
    )
    bare = plan(model, some(10), ledger)
    assert (bare.money, bare.seconds, bare.calls) == (None, None, 6)


def test_a_plan_and_a_run_agree(ledger):
    model, requests = Toy(), some(7)
    found = plan(model, requests, ledger, prices=Prices(2, 8))
    total = found.prompt_tokens + found.completion_tokens
    usage = ask(model, requests, ledger, budget=Budget(calls=found.calls, tokens=total)).usage
    assert (usage.calls, usage.prompt_tokens + usage.completion_tokens) == (found.calls, total)


def test_a_rate_is_above_zero(ledger):
    with pytest.raises(RecloomError, match="above 0; found 0"):
        plan(Toy(), some(1), ledger, rate=0)


def test_a_batch_that_broke_off_is_settled_whole():
    meter = BudgetTracker(Budget(tokens=1000))
    worst = meter.worst(Toy(), some(3))
    meter.send(worst)
    assert meter.set_aside == Cost(3, 300, 150)
    assert not meter.fits([Cost(1, 551, 0)])
    assert meter.fits([Cost(1, 550, 0)])
    meter.settle(worst, [LLMResponse(("a",), (), 100, 5)])
    assert (meter.set_aside, meter.spent) == (Cost(), Cost(3, 300, 105))
