"""From messages to the tokens of a prompt, by the chat template of a tokeniser; a message stays in its turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...errors import LLMRequestError
from .. import Message

MARK = re.compile(r"^[<\[].+[>\]]$")


def prompt_tokens(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Tokens up to where the answer begins.

    Without a template, contents are joined by a blank line, and a single message is given as it is. Where a
    template knows no system role, that message is put before the first of the user. Where the assistant speaks
    last, its message is begun and not ended.
    Raises LLMRequestError where the template refuses the messages, or nothing is said.
    """
    text, framed = prompt_text(tokenizer, messages)
    found: list[int] = tokenizer(text, add_special_tokens=not framed)["input_ids"]
    if not found:
        raise LLMRequestError("the prompt is empty")
    return found


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> tuple[str, bool]:
    """What `prompt_tokens` turns into tokens, and whether the template has set the begin and end marks in it."""
    marks = control_marks(tokenizer)
    clean = [Message(role=each["role"], content=broken(each["content"], marks)) for each in messages]
    if tokenizer.chat_template is None:
        return "\n\n".join(each["content"] for each in clean), False
    return _rendered(tokenizer, clean), True


def control_marks(tokenizer: Any) -> list[str]:
    """Texts that the tokeniser turns into one control token, such as `<|im_end|>`; longest first."""
    added = tokenizer.added_tokens_decoder.values()
    marks = {str(token) for token in added if token.special or MARK.match(str(token))}
    return sorted((mark for mark in marks if len(mark) > 1), key=lambda mark: (-len(mark), mark))


def broken(text: str, marks: Sequence[str]) -> str:
    """The text with a blank inside each mark."""
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def _rendered(tokenizer: Any, messages: Sequence[Message]) -> str:
    from jinja2 import TemplateError

    ask = not messages or messages[-1]["role"] != "assistant"
    refused: Exception | None = None
    for form in (list(messages), _without_system(messages)):
        try:
            text: str = tokenizer.apply_chat_template(
                form, tokenize=False, add_generation_prompt=ask, continue_final_message=not ask
            )
            return text
        except (TemplateError, ValueError, IndexError) as error:
            refused = refused or error
    raise LLMRequestError(f"the chat template refuses the messages: {refused}") from refused


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The system message put before the first of the user."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return list(messages)
    system, first, *rest = messages
    return [Message(role=first["role"], content=f"{system['content']}\n\n{first['content']}"), *rest]
