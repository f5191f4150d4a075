"""Validation of request bodies, and JSON responses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from .http_errors import HttpError, brief

Parsed = TypeVar("Parsed")
EITHER = frozenset({"str", "int"})
"""What pydantic adds to the location of a fault in a value that may be of either type."""


def parse_body(kind: TypeAdapter[Parsed], body: bytes) -> Parsed:
    """A JSON body as the type it should be; HttpError with its first fault."""
    try:
        return kind.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise HttpError(
                f"the body is not JSON in UTF-8: {first['msg'].removeprefix('Invalid JSON: ')}"
            ) from error
        raise HttpError(fault_message(first["loc"], first["type"], first["msg"], first["input"])) from error


def fault_message(location: Sequence[str | int], kind: str, message: str, found: Any) -> str:
    """A fault that pydantic has found, in words: where, what was expected, what was found.

    Args:
        location: keys and positions that lead to the value.
        kind: pydantic's name of the fault.
        message: pydantic's.
        found: the value.
    """
    where = ".".join(str(part) for part in location if part not in EITHER) or "the body"
    if kind == "missing":
        return f"{where} is missing"
    if kind == "extra_forbidden":
        return f"{where} is not a field of this request; the API page at /docs lists the fields"
    if EITHER & {*location}:
        return f"{where}: expected an id, which is text or a whole number, found {brief(found)}"
    what = message.removeprefix("Input should be ").removeprefix("List should ")
    return f"{where}: expected {what[0].lower()}{what[1:]}, found {brief(found)}"


def json_response(content: Any, status: int = 200) -> Response:
    """Strict JSON: a number that JSON cannot hold is an error here."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, media_type="application/json")


def check_text(values: Sequence[str], where: str) -> None:
    """HttpError for an id with a NUL character, at which runtimes end a string."""
    if "\0" in "".join(values):
        wrong = next(value for value in values if "\0" in value)
        raise HttpError(f"{where} holds an id with a NUL character, {brief(wrong)}; no id has one")
