"""Takes a key out of text that others wrote: what a server says, and what an HTTP library logs of it."""

from __future__ import annotations

import logging
import re

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
