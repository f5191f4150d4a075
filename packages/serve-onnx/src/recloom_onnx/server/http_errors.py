"""Why a request is not answered, with the status that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recloom.errors import RecloomError

OVERLOADED = 503
RETRY = {"Retry-After": "1"}


class Refused(RecloomError):
    """A request that gets `{"error": message}`.

    Args:
        message: what, expected, found, next step.
        status: of HTTP.
        headers: that go with the answer.
    """

    def __init__(self, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def brief(value: Any, length: int = 60) -> str:
    """What was found, for a message: quoted, in ASCII, and cut."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = value[: length + 1] if isinstance(value, str) else str(value)[: length + 1]
    shown = ascii(text[:length]) if isinstance(value, str) else text[:length]
    return shown + ("..." if len(text) > length else "")
