"""Keys stay in the environment: what is written or said is searched for their values first."""

from __future__ import annotations

import json
import os

from ..errors import QuestionError

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
    """Raise QuestionError, which names the variable and not its value, where one of these JSON texts holds a secret.

    Args:
        what: what the texts are, for the message.
        jsons: JSON as `json.dumps(..., ensure_ascii=False)` writes it.
    """
    for value, name in secrets().items():
        if any(
            form in text for form in (value, json.dumps(value, ensure_ascii=False)[1:-1]) for text in jsons
        ):
            raise QuestionError(
                f"{what} holds the value of the environment variable {name}, so it is neither kept nor asked. "
                f"Take it out of the text, or unset {name} where it is no secret."
            )


def without_secrets(text: str) -> str:
    """The text with the name of the variable in place of every secret."""
    for value, name in secrets().items():
        text = text.replace(value, f"[value of {name}]")
    return text
