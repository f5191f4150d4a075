"""Send many requests: each once, each response kept the moment it arrives, never over the budget.

Requests with equal settings go out in batches while they fit the budget. Batches are worked on at the same time by
daemon worker threads: those of concurrent.futures are joined at exit, so Ctrl-C would wait for every answer under
way. Responses are taken in the order in which they arrive.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...errors import LLMRequestError, RecloomError
from ...progress import Progress
from .. import Generation, Scores
from ..ledger.export import dumps
from ..openai.redaction import refuse_secrets, without_secrets
from ..requests import Failure, LLMRequest, LLMResponse
from .budget import Budget, BudgetError, BudgetTracker, Cost
from .usage import EndedEarly, Usage, early_end

if TYPE_CHECKING:
    from .. import LanguageModel
    from ..ledger.store import Ledger


@dataclass(frozen=True)
class LLMResult:
    """A response or a failure for each request, in their order, its key in the ledger, and the usage.

    Equal requests share one object.
    """

    responses: list[LLMResponse | Failure]
    usage: Usage
    keys: list[str]


# -- one round ----------------------------------------------------------------------------------------


def ask(
    model: LanguageModel,
    requests: Sequence[LLMRequest],
    ledger: Ledger,
    *,
    budget: Budget | BudgetTracker | None = None,
    offline: bool = False,
    progress: str = "asking",
) -> LLMResult:
    """Answer every request, from the ledger where it can, else by the model.

    Equal requests are sent once. A request that the model cannot answer becomes a Failure; any other error ends the
    run once what is under way has arrived. Interrupted or killed, the run loses what is under way and nothing else:
    the same call goes on from there.

    Args:
        model: who is asked, in batches of its `batch_size`, up to its `concurrency` at a time.
        requests: of any kinds; those with equal `settings` go out together, longest first.
        ledger: where responses are looked up and kept.
        budget: limits; a BudgetTracker holds several runs to one budget.
        offline: send nothing; a response that the ledger lacks is an error.
        progress: what the progress bar on a terminal says.

    Raises BudgetError before the first batch that might exceed the budget.
    """
    try:
        return ask_round(model, requests, ledger, budget=budget, offline=offline, progress=progress)
    except EndedEarly as end:
        error = early_end(end.cause, end.usage, ledger.path)
    raise error  # outside, so that it keeps the cause it came with


def ask_round(
    model: LanguageModel,
    requests: Sequence[LLMRequest],
    ledger: Ledger,
    *,
    budget: Budget | BudgetTracker | None = None,
    offline: bool = False,
    progress: str = "asking",
) -> LLMResult:
    """`ask` for one of several rounds: what ends it early is raised as EndedEarly, with the usage of this round."""
    begun = time.perf_counter()
    identity = model.identity
    wanted, keys = distinct(identity, requests)
    found: dict[str, LLMResponse | Failure] = dict(ledger.get_many(wanted))
    cached = len(found)
    missing = {key: request for key, request in wanted.items() if key not in found}
    if missing and (offline or ledger.offline):
        raise RecloomError(
            f"offline, and {ledger.path} lacks the responses to {len(missing):,} of {len(wanted):,} requests to "
            f"{identity.get('class')}. Send them without --llm.offline, or import them with `recloom llm import`."
        )
    tracker = budget if isinstance(budget, BudgetTracker) else BudgetTracker(budget or Budget())
    ended: BaseException | None = None
    if missing:
        refuse_secrets("the identity of the language model", dumps(dict(identity)))
        with Progress(progress, len(wanted), cached) as bar:
            runner = Runner(model, identity, ledger, tracker, bar)
            runner.run(missing)
        found, ended = found | runner.found, runner.error
    if ended:  # a thread that was left behind may have kept a response
        found = {**ledger.get_many(missing), **found}
    usage = _usage(requests, wanted, found, missing, tracker)
    usage = replace(usage, seconds=time.perf_counter() - begun)
    if ended:
        raise EndedEarly(ended, usage)
    return LLMResult([found[key] for key in keys], usage, keys)


def distinct(
    identity: Mapping[str, Any], requests: Sequence[LLMRequest]
) -> tuple[dict[str, LLMRequest], list[str]]:
    """Every request once by its key, in the order of their first occurrence, and the key of each position."""
    keys = [request.key(identity) for request in requests]
    wanted: dict[str, LLMRequest] = {}
    for key, request in zip(keys, requests, strict=True):
        wanted.setdefault(key, request)
    return wanted, keys


def _usage(
    requests: Sequence[LLMRequest],
    wanted: Mapping[str, LLMRequest],
    found: Mapping[str, LLMResponse | Failure],
    missing: Mapping[str, LLMRequest],
    tracker: BudgetTracker,
) -> Usage:
    arrived = [found[key] for key in missing if key in found]
    responses = [response for response in arrived if isinstance(response, LLMResponse)]
    tokens = sum(r.prompt_tokens for r in responses), sum(r.completion_tokens for r in responses)
    prices = tracker.budget.prices
    return Usage(
        requests=len(requests), repeated=len(requests) - len(wanted), cached=len(wanted) - len(missing),
        calls=len(arrived), failures=len(arrived) - len(responses), prompt_tokens=tokens[0],
        completion_tokens=tokens[1], money=prices.cost(*tokens) if prices else None,
        currency=prices.currency if prices else "", estimated=sum(r.estimated for r in responses),
        unsent=len(missing) - len(arrived),
    )  # fmt: skip


# -- batches on their way -----------------------------------------------------------------------------


@dataclass(frozen=True)
class RequestBatch:
    """Requests that go out together, their keys, and what each costs at worst."""

    keys: list[str]
    requests: list[LLMRequest]
    worst: list[Cost]


@dataclass(frozen=True)
class BatchResult:
    """What came back of a batch; after an error some of the responses may be there and kept."""

    batch: RequestBatch
    responses: list[LLMResponse | Failure]
    error: BaseException | None = None


def batches(requests: Mapping[str, LLMRequest], size: int) -> Iterator[list[str]]:
    """Keys of requests with equal settings, longest first, up to `size` together."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for key, request in requests.items():
        groups.setdefault(request.settings, []).append(key)
    for keys in groups.values():
        keys.sort(key=lambda key: -_length(requests[key]))
        for start in range(0, len(keys), size):
            yield keys[start : start + size]


def _length(request: LLMRequest) -> int:
    return sum(len(m["content"]) for m in request.messages) + sum(map(len, request.options or ()))


class Runner:
    """One pass over the requests that the ledger lacks."""

    def __init__(
        self,
        model: LanguageModel,
        identity: dict[str, Any],
        ledger: Ledger,
        tracker: BudgetTracker,
        bar: Progress,
    ) -> None:
        self.model, self.identity, self.ledger, self.tracker, self.bar = model, identity, ledger, tracker, bar
        self.found: dict[str, LLMResponse | Failure] = {}
        self.error: BaseException | None = None

    def run(self, missing: dict[str, LLMRequest]) -> None:
        """Send batches while they fit and take what arrives into `found`; what ends it early is kept in `error`."""
        workers = Workers(self._answer, max(1, self.model.concurrency))
        try:
            for keys in batches(missing, max(1, self.model.batch_size)):
                self._send(workers, keys, missing)
                if self.error:
                    break
            while workers.under_way:
                self._take(workers.next())
        except KeyboardInterrupt as stop:
            self.error = stop
        finally:
            workers.close()

    def _send(
        self, workers: Workers[RequestBatch, BatchResult], keys: list[str], missing: dict[str, LLMRequest]
    ) -> None:
        """Send all of these, in parts where the budget has no room for all at once."""
        while keys and not self.error:
            part = self._affordable([missing[key] for key in keys]) if workers.free else []
            if len(part) == len(keys) or (part and not workers.under_way):
                batch = RequestBatch(keys[: len(part)], [missing[key] for key in keys[: len(part)]], part)
                self.tracker.send(part)
                workers.start(batch)
                keys = keys[len(part) :]
            elif workers.under_way:
                self._take(workers.next())
            else:
                self.error = BudgetError(
                    f"the budget is used up ({self.tracker}; the next call might exceed it)"
                )

    def _affordable(self, requests: list[LLMRequest]) -> list[Cost]:
        """The worst cases of as many of the first requests as fit into the budget."""
        worst = self.tracker.worst(self.model, requests)
        while worst and not self.tracker.fits(worst):
            worst.pop()
        return worst

    def _answer(self, batch: RequestBatch) -> BatchResult:
        """Send one batch and keep its responses; runs in a thread, so errors are returned."""
        responses: list[LLMResponse | Failure] = []
        try:
            for key, request, response in zip(
                batch.keys, batch.requests, answer_batch(self.model, batch.requests), strict=True
            ):
                responses.append(self._kept(key, request, response))
        except Exception as error:  # whatever a backend raises ends the run, after what arrived is kept
            return BatchResult(batch, responses, error)
        return BatchResult(batch, responses)

    def _kept(self, key: str, request: LLMRequest, response: LLMResponse | Failure) -> LLMResponse | Failure:
        if isinstance(response, Failure):
            return response
        try:
            self.ledger.put(key, self.identity, request, response)
        except LLMRequestError as error:
            return Failure(str(error))
        return response

    def _take(self, result: BatchResult) -> None:
        self.tracker.settle(result.batch.worst, result.responses)
        self.found |= zip(result.batch.keys, result.responses, strict=False)
        self.error = self.error or result.error
        self.bar.advance(
            len(result.responses), sum(isinstance(response, Failure) for response in result.responses)
        )


Job = TypeVar("Job")
Done = TypeVar("Done")


class Workers(Generic[Job, Done]):
    """Up to `size` daemon threads that do `work`, which must not raise; with size 1 `next` itself does it."""

    def __init__(self, work: Callable[[Job], Done], size: int) -> None:
        self.size = size
        self.under_way = 0
        self._work = work
        self._todo: SimpleQueue[Job | None] = SimpleQueue()
        self._done: SimpleQueue[Done] = SimpleQueue()
        self._threads = 0

    @property
    def free(self) -> bool:
        """Whether another job would be begun at once."""
        return self.under_way < self.size

    def start(self, job: Job) -> None:
        """Hand a job over."""
        self._todo.put(job)
        self.under_way += 1
        if self._threads < self.under_way and self.size > 1:
            self._threads += 1
            Thread(target=self._run, daemon=True).start()

    def next(self) -> Done:
        """Wait for the next job that is done."""
        if self.size == 1:
            job = self._todo.get()
            assert job is not None
            self._done.put(self._work(job))
        done = self._done.get()
        self.under_way -= 1
        return done

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for _ in range(self._threads):
            self._todo.put(None)

    def _run(self) -> None:
        while (job := self._todo.get()) is not None:
            self._done.put(self._work(job))


# -- one batch to a backend ---------------------------------------------------------------------------


def answer_batch(model: LanguageModel, requests: list[LLMRequest]) -> list[LLMResponse | Failure]:
    """Send what may be sent: a request that holds a secret fails before it goes out."""
    refused = {at: failure for at, request in enumerate(requests) if (failure := _refusal(request))}
    sent = [request for at, request in enumerate(requests) if at not in refused]
    found = iter(_call(model, sent) if sent else [])
    return [refused.get(at) or next(found) for at in range(len(requests))]


def _refusal(request: LLMRequest) -> Failure | None:
    if request.options == ():
        return Failure("a request with options needs at least one; found none")
    try:
        refuse_secrets("the request", dumps(request.as_data()))
    except LLMRequestError as error:
        return Failure(str(error))
    return None


def _call(model: LanguageModel, requests: list[LLMRequest]) -> list[LLMResponse | Failure]:
    messages, one = [request.messages for request in requests], requests[0]
    found: Sequence[Generation | Scores | LLMRequestError]
    if one.options is not None:
        found = model.score_batch(messages, [request.options or () for request in requests])
    else:
        found = model.generate_batch(
            messages, n=one.n, temperature=one.temperature, max_tokens=one.max_tokens, seed=one.seed,
            schema=json.loads(one.schema) if one.schema else None,
        )  # fmt: skip
    if len(found) != len(requests):
        raise RecloomError(f"{type(model).__name__} gave {len(found)} responses to {len(requests)} requests")
    return [to_response(request, answer) for request, answer in zip(requests, found, strict=True)]


def to_response(request: LLMRequest, answer: Generation | Scores | LLMRequestError) -> LLMResponse | Failure:
    """What a backend returned as a response; a Failure where it is an error or not what the request asked for."""
    if isinstance(answer, LLMRequestError):
        return Failure(without_secrets(str(answer)))
    if isinstance(answer, Generation):
        if len(answer.texts) != request.n:
            return Failure(f"{len(answer.texts)} answers came of {request.n}", tuple(answer.texts))
        return LLMResponse(
            tuple(answer.texts), (), answer.prompt_tokens, answer.completion_tokens, False, answer.cut,
            answer.estimated,
        )  # fmt: skip
    scores = answer.log_probs
    if len(scores) != len(request.options or ()) or any(math.isnan(score) for score in scores):
        return Failure(f"the scores {scores[:8]} are not one number for each option")
    return LLMResponse(
        (), tuple(scores), answer.prompt_tokens, answer.completion_tokens, estimated=answer.estimated
    )
