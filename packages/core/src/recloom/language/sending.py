"""Questions on their way: batches go out while they fit the budget, and each reply is kept as it arrives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import QuestionError
from .budget import BudgetError, Cost, Meter
from .progress import Progress
from .question import Failure, Question, Reply
from .replies import answer_batch
from .workers import Workers

if TYPE_CHECKING:
    from . import LanguageModel
    from .ledger import Ledger


@dataclass(frozen=True)
class Batch:
    """Questions that go out together, their keys, and what each costs at worst."""

    keys: list[str]
    questions: list[Question]
    worst: list[Cost]


@dataclass(frozen=True)
class Arrived:
    """What came back of a batch; after an error some of the replies may be there and kept."""

    batch: Batch
    replies: list[Reply | Failure]
    error: BaseException | None = None


def batches(questions: Mapping[str, Question], size: int) -> Iterator[list[str]]:
    """Keys of questions with equal settings, longest first, up to `size` together."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for key, question in questions.items():
        groups.setdefault(question.settings, []).append(key)
    for keys in groups.values():
        keys.sort(key=lambda key: -_length(questions[key]))
        for start in range(0, len(keys), size):
            yield keys[start : start + size]


def _length(question: Question) -> int:
    return sum(len(m["content"]) for m in question.messages) + sum(map(len, question.options or ()))


class Run:
    """One pass over the questions that the ledger lacks."""

    def __init__(
        self, model: LanguageModel, identity: dict[str, Any], ledger: Ledger, meter: Meter, bar: Progress
    ) -> None:
        self.model, self.identity, self.ledger, self.meter, self.bar = model, identity, ledger, meter, bar
        self.found: dict[str, Reply | Failure] = {}
        self.error: BaseException | None = None

    def run(self, missing: dict[str, Question]) -> None:
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

    def _send(self, workers: Workers[Batch, Arrived], keys: list[str], missing: dict[str, Question]) -> None:
        """Send all of these, in parts where the budget has no room for all at once."""
        while keys and not self.error:
            part = self._affordable([missing[key] for key in keys]) if workers.free else []
            if len(part) == len(keys) or (part and not workers.under_way):
                batch = Batch(keys[: len(part)], [missing[key] for key in keys[: len(part)]], part)
                self.meter.send(part)
                workers.start(batch)
                keys = keys[len(part) :]
            elif workers.under_way:
                self._take(workers.next())
            else:
                self.error = BudgetError(
                    f"the budget is used up ({self.meter}; the next call might exceed it)"
                )

    def _affordable(self, questions: list[Question]) -> list[Cost]:
        """The worst cases of as many of the first questions as fit into the budget."""
        worst = self.meter.worst(self.model, questions)
        while worst and not self.meter.fits(worst):
            worst.pop()
        return worst

    def _answer(self, batch: Batch) -> Arrived:
        """Ask one batch and keep its replies; runs in a thread, so errors are returned."""
        replies: list[Reply | Failure] = []
        try:
            for key, question, answer in zip(
                batch.keys, batch.questions, answer_batch(self.model, batch.questions), strict=True
            ):
                replies.append(self._kept(key, question, answer))
        except Exception as error:  # whatever a backend raises ends the run, after what arrived is kept
            return Arrived(batch, replies, error)
        return Arrived(batch, replies)

    def _kept(self, key: str, question: Question, answer: Reply | Failure) -> Reply | Failure:
        if isinstance(answer, Failure):
            return answer
        try:
            self.ledger.put(key, self.identity, question, answer)
        except QuestionError as error:
            return Failure(str(error))
        return answer

    def _take(self, arrived: Arrived) -> None:
        self.meter.settle(arrived.batch.worst, arrived.replies)
        self.found |= zip(arrived.batch.keys, arrived.replies, strict=False)
        self.error = self.error or arrived.error
        self.bar.advance(len(arrived.replies), sum(isinstance(reply, Failure) for reply in arrived.replies))
