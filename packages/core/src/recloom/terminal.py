"""Show untrusted text on a terminal without letting it steer the terminal; lists as wide as the terminal."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 and C1 controls: ESC begins a command to the terminal
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line separators; marks and overrides of direction
    "\ud800-\udfff]"  # lone surrogates, which no encoding can write
)
DENSE = 4
"""Characters per column at most: combining marks have no width, and a title may hold thousands."""


def plain(text: str, width: int = 80) -> Text:
    """Text for a rich table or console that holds no markup, one line of at most `width` columns.

    Control characters become their pictures (ESC is shown as ␛, a line break as ␊), what else could steer a
    terminal becomes U+FFFD, and what is cut off ends in an ellipsis.
    """
    from rich.text import Text

    kept = text if len(text) <= DENSE * width else text[: DENSE * width] + "…"
    shown = Text(UNSAFE.sub(_picture, kept))
    shown.truncate(width, overflow="ellipsis")
    return shown


def visible(message: str) -> str:
    """A message of several lines, whatever it quotes: line breaks stay, all else that `plain` would replace is."""
    return "\n".join(UNSAFE.sub(_picture, line) for line in message.split("\n"))


def width() -> int | None:
    """Columns of the terminal that is printed to, or those that COLUMNS names; None where neither says."""
    with contextlib.suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", ""))) > 0:
            return columns
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            return os.get_terminal_size(sys.stdout.fileno()).columns
    return None


def listed(name: str, text: str, column: int) -> str:
    """A name and, from a column on, a text about it, which is broken at the width of the terminal, if there is one."""
    begin, columns = f"  {name:{column - 3}} ", width()
    if columns is None or len(begin) + len(text) <= columns or columns < column + 20:
        return begin + text
    indent = " " * column
    return textwrap.fill(
        text,
        columns,
        initial_indent=begin,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"
