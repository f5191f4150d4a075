"""Redaction: keys are taken out of what servers send and HTTP libraries log, and secrets are refused in what is kept.

Keys stay in the environment: what is written or shown is searched for their values first.
"""

from __future__ import annotations

import json
import logging
import os
import re

from ...errors import LLMRequestError

RUN = 8
"""So many characters of a key in a row are taken out; fewer tell nothing."""
LOGGERS = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)


def without_key(text: str, key: str) -> str:
    """The text without any run of RUN characters of the key, or without a shorter key, in letters of any size."""
    size = min(RUN, len(key))
    parts = {key[at : at + size] for at in range(len(key) - size + 1)} - {""}
    hidden = {
        at
        for part in parts
        for match in re.finditer(f"(?={re.escape(part)})", text, re.IGNORECASE | re.ASCII)
        for at in range(match.start(), match.start() + size)
    }
    masked = "".join("\0" if at in hidden else character for at, character in enumerate(text))
    return re.sub("\0+", "[key]", masked) if hidden else text


class KeyFilter(logging.Filter):
    """Masks keys in log records: at level DEBUG, httpcore logs the headers that a server sent."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        masked = message
        for key in self.keys:
            masked = without_key(masked, key)
        if masked != message:
            record.msg, record.args = masked, None
        return True

    def watch(self, key: str) -> None:
        """Mask this key in the logs of the HTTP libraries from now on."""
        self.keys = self.keys | {key}  # a new set, since another thread may go through the old one
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)  # once, however often it is added


KEY_FILTER = KeyFilter()


ENDINGS = (b"_KEY", b"_TOKEN", b"_SECRET")
NAMED: set[str] = set()
"""Further variables that hold a key: those that a language model of this process was told to read it from."""
SHORTEST = 8
"""Shorter values would be found in innocent text."""


def secrets() -> dict[str, str]:
    """Value to name of every variable that holds a secret by its name or by its use, longest value first."""
    names = {
        os.fsdecode(name) for name in os.environb if name.upper().endswith(ENDINGS)
    }  # bytes: often called
    names |= NAMED
    held = {value: name for name in sorted(names) if len(value := os.environ.get(name, "")) >= SHORTEST}
    return dict(sorted(held.items(), key=lambda pair: -len(pair[0])))


def refuse_secrets(what: str, *jsons: str) -> None:
    """Raise LLMRequestError, which names the variable and not its value, where one of these JSON texts holds a secret.

    Args:
        what: what the texts are, for the message.
        jsons: JSON as `json.dumps(..., ensure_ascii=False)` writes it.
    """
    for value, name in secrets().items():
        if any(
            form in text for form in (value, json.dumps(value, ensure_ascii=False)[1:-1]) for text in jsons
        ):
            raise LLMRequestError(
                f"{what} holds the value of the environment variable {name}, so it is neither kept nor sent. "
                f"Take it out of the text, or unset {name} where it is no secret."
            )


def without_secrets(text: str) -> str:
    """The text with the name of the variable in place of every secret."""
    for value, name in secrets().items():
        text = text.replace(value, f"[value of {name}]")
    return text
