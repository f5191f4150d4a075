"""Asking a server again: which waits, for how long, and what is said in the end."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from ..errors import QuestionError, RecloomError

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
FIRST = 0.05
"""Seconds before the second attempt; each further wait is twice as long, up to LONGEST, less up to half at random."""
LONGEST = 20.0
LONGEST_ASKED = 120.0
"""Seconds that a server may ask for in Retry-After."""
TOLD = 5.0
"""Waits from this length on are warnings, since someone may be watching."""
CHANCE = random.Random()
"""Of its own, so that waiting leaves a seeded generator as it was."""


class Fault(Exception):
    """An attempt that failed and may be repeated.

    Args:
        reason: in words, without secrets.
        of_question: whether another question may fare better.
        pause: what the server says in Retry-After.
    """

    def __init__(self, reason: str, of_question: bool = True, pause: str = "") -> None:
        super().__init__(reason)
        self.of_question = of_question
        self.pause = asked_pause(pause)


def patiently(attempt: Callable[[], Answer], retries: int, host: str) -> Answer:
    """Repeat an attempt after a Fault; then QuestionError or, where no question would fare better, RecloomError."""
    import tenacity

    def tell(state: RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action else 0.0
        level = logging.WARNING if wait >= TOLD else logging.DEBUG
        log.log(
            level,
            "%s: %s; retry %d of %d in %.2f s",
            host,
            _fault(state),
            state.attempt_number,
            retries,
            wait,
        )

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(retries + 1),
        wait=lambda state: _fault(state).pause + backoff(state.attempt_number),
        retry=tenacity.retry_if_exception_type(Fault),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return attempts(attempt)
    except Fault as fault:
        if fault.of_question:
            raise QuestionError(f"{host} did not answer in {retries + 1} attempts: {fault}") from None
        raise RecloomError(
            f"{host} did not answer in {retries + 1} attempts: {fault}. Check the address and the limits of the "
            "account; what was answered before need not be asked again."
        ) from None


def _fault(state: RetryCallState) -> Fault:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Fault) else Fault("unknown")


def backoff(attempt: int) -> float:
    """Seconds to wait after the attempt of this number, from 1."""
    return min(LONGEST, FIRST * 2.0 ** min(attempt - 1, 30)) * CHANCE.uniform(0.5, 1.0)


def asked_pause(header: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date: at most LONGEST_ASKED, 0 for nonsense."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_ASKED)
