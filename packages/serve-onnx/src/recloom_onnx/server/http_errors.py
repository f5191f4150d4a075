"""Errors of a request with the HTTP status that they are answered with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recloom.errors import RecloomError

OVERLOADED = 503
RETRY = {"Retry-After": "1"}


class HttpError(RecloomError):
    """A request that is answered with `{"error": message}`.

    Args:
        message: what, expected, found, next step.
        status: of HTTP.
        headers: that go with the answer.
    """

    def __init__(self, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def brief(value: Any, length: int = 60) -> str:
    """A value found in a request, for a message: quoted, in ASCII, and cut to `length` characters."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = value[: length + 1] if isinstance(value, str) else str(value)[: length + 1]
    shown = ascii(text[:length]) if isinstance(value, str) else text[:length]
    return shown + ("..." if len(text) > length else "")
